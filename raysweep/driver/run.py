"""`raysweep.run`: checks and runs a sweep from Python or a notebook, like a job."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from raysweep.driver.main import check_and_run
from raysweep.errors import BadInput
from raysweep.history.results import SweepResults
from raysweep.spec import function
from raysweep.spec import task as tasks
from raysweep.spec.flags import Flags, checked, nearest
from raysweep.spec.initial_points import Point, parse
from raysweep.spec.rules import check, rule
from raysweep.spec.sweep import Strategy, checked_knobs
from raysweep.spec.sweep import strategy as load_strategy
from raysweep.spec.task import Task

T = TypeVar("T")


def run(
    strategy_name: str,
    task: str | Task | Callable[..., None] | None = None,
    space: dict[str, Any] | None = None,
    *,
    objective: str | Task | Callable[..., None] | None = None,
    config: dict[str, Any] | None = None,
    metric: str | None = None,
    mode: str | None = None,
    points: list[dict[str, Any]] | None = None,
    points_to_evaluate: list[dict[str, Any]] | None = None,
    data: Any = None,
    mutable: tuple[str, ...] | None = None,
    reuse_actors: bool | None = None,
    storage: str | Path | None = None,
    knobs: dict[str, Any] | None = None,
    **flags: Any,
) -> SweepResults:
    """Runs a sweep from Python or a notebook, like a job.

    Args:
        strategy_name: a file of jobs/, such as "asha".
        task: the name of a task, or a training function `train(config)` or `train(config, data)`. The data are given
            to the parameter called `data`, or else to the one without a default.
        space: parameter -> Ray's domain; for a training function.
        objective: another name for `task`, as in Optuna.
        config: another name for `space`, as in Ray Tune.
        metric: what to optimise.
        mode: "max" or "min".
        points: configurations to try first, or `{"config": …, "value": …}` with a known value.
        points_to_evaluate: another name for `points`, as in Ray Tune.
        data: for a training function, what is passed to each trial through the object store; for a task by name, the
            folder of its data set, as `--data`.
        mutable: parameters that PBT may change; for a training function.
        reuse_actors: see `Task`, whose default it has; for a training function.
        storage: folder or s3://bucket/prefix.
        knobs: the strategy's own knobs.
        **flags: the other flags of a job: samples, max_iterations, cpus_per_trial, gpus_per_trial, seed, name, …

    Returns:
        The results: `.best`, `.table` (a pandas DataFrame), `.load()` (the best trial's state).

    Raises:
        BadInput: all problems; nothing was started.
        SweepFailed: trials failed beyond `max_failures`, or none reported.
    """
    place = os.fspath(storage) if isinstance(storage, os.PathLike) else storage
    given = flags | {"metric": metric, "mode": mode, "storage": place}
    with _python_spelling(), _restored_globals():
        asked, strategy = _Asked(), load_strategy(strategy_name)
        task = asked.one("task", task, "objective", objective)
        space = asked.one("space", space, "config", config)
        points = asked.one("points", points, "points_to_evaluate", points_to_evaluate)
        if isinstance(task, str | Task) and isinstance(data, str | os.PathLike):
            given, data = given | {"data": os.fspath(data)}, None
        all_flags, all_knobs = asked.flags(given), asked.knobs(strategy, knobs)
        own = {"space": space, "mutable": mutable, "data": data, "reuse_actors": reuse_actors}
        loaded = asked.noted(lambda: _task_of(task, given, all_flags, own))
        if loaded is None:
            raise BadInput(*asked.problems)
        parsed = asked.points(points, loaded)
        all_flags = dataclasses.replace(all_flags, task=loaded.name)
        results = check_and_run(strategy, all_flags, all_knobs, loaded, parsed, asked.problems, timed=False)
    if results is None:
        raise BadInput("`dry_run`: no problems found, nothing was started")
    return results


class _Asked:
    """The arguments of a run, and all that is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def noted(self, make: Callable[[], T]) -> T | None:
        """What it makes, or None if that was refused."""
        try:
            return make()
        except BadInput as error:
            self.problems += error.problems
            return None

    def one(self, name: str, value: Any, other: str, same: Any) -> Any:
        """An argument that has two names."""
        if value is not None and same is not None:
            self.problems.append(f"`{name}` and `{other}` are the same argument: give one of them")
        return same if value is None else value

    def of_kind(self, name: str, value: Any, kind: Any) -> Any:
        """An argument of that type, or None."""
        found, problem = check(name, value, rule(kind))
        self.problems += [problem] if problem else []
        return found

    def flags(self, given: dict[str, Any]) -> Flags:
        """The flags that every job has."""
        known = [field.name for field in dataclasses.fields(Flags)]
        self.problems += [
            f"`{key}` is not an argument of run{nearest(key, known)}" for key in given if key not in known
        ]
        flags, wrong = checked(Flags, given)
        self.problems += wrong
        return flags

    def knobs(self, strategy: Strategy, values: Any) -> Any:
        """The strategy's knobs."""
        knobs, wrong = checked_knobs(strategy, self.of_kind("knobs", values, dict[str, Any] | None) or {})
        self.problems += wrong
        return knobs

    def points(self, items: Any, task: Task) -> tuple[Point, ...]:
        """The configurations to try first."""
        listed = self.of_kind("points", items, list[Any] | None) or []
        return tuple(self.noted(lambda: parse(listed, task.space)) or ())


@contextlib.contextmanager
def _python_spelling() -> Iterator[None]:
    """What is wrong with a flag is told of the argument: not `--max-iterations 0`, but `max_iterations=0`."""

    def spelled(match: re.Match[str]) -> str:
        return match[1] + match[2].replace("-", "_") + ("=" if match[1] and match[3] else match[3])

    try:
        yield
    except BadInput as error:
        raise BadInput(*(re.sub(r"(`?)--([a-z][a-z-]*)( ?)", spelled, problem) for problem in error.problems)) from None


@contextlib.contextmanager
def _restored_globals() -> Iterator[None]:
    """Restores what a sweep changes: the global random generators (searchers) and sys.path (loading a task)."""
    python, numpy, path = random.getstate(), np.random.get_state(), list(sys.path)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        sys.path[:] = path


def _task_of(task: Any, given: dict[str, Any], flags: Flags, own: dict[str, Any]) -> Task:
    """The task: as it is, by its name, or that of a training function and of what was given with it.

    Raises:
        BadInput: there is none, something is missing, or was given to a task that has its own.
    """
    if isinstance(task, str | Task):
        loaded = tasks.load(task) if isinstance(task, str) else task
        if useless := [name for name, value in own.items() if value is not None]:
            raise BadInput(
                *(
                    f"`{name}` is for a training function: task {loaded.name} has its own: leave it out"
                    for name in useless
                )
            )
        return loaded
    if task is None:
        raise BadInput("`task` is missing: give the name of a task, or a training function")
    needed = {name: (own | given).get(name) for name in ("space", "metric", "mode", "max_iterations")}
    if missing := [name for name, value in needed.items() if value is None]:
        raise BadInput(*(f"`{name}` must be given with a training function" for name in missing))
    data, name = own["data"], function.name_of(task)
    if data is not None and not function.problems(task) and not function.takes_data(task):
        raise BadInput(f"`data` is given, and `{name}` does not take it: add a parameter `data` to it, or leave it out")
    # One that was refused is reported with all the others; until then any will do.
    return Task(
        name,
        task,
        own["space"],
        flags.metric or "",
        flags.mode or "max",
        flags.max_iterations or 1,
        mutable=own["mutable"],
        load_data=None if data is None else lambda root: data,
        reuse_actors=True if own["reuse_actors"] is None else own["reuse_actors"],
    )
