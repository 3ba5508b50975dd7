"""`raysweep.run`: checks and runs a sweep from Python or a notebook, like a job."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.driver.main import check_and_run
from raysweep.errors import BadInput
from raysweep.history.results import SweepResults
from raysweep.spec import task as tasks
from raysweep.spec.flags import Flags, checked, nearest
from raysweep.spec.initial_points import parse
from raysweep.spec.sweep import knobs_of
from raysweep.spec.sweep import strategy as load_strategy
from raysweep.spec.task import Task


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
    reuse_actors: bool = True,
    storage: str | Path | None = None,
    knobs: dict[str, Any] | None = None,
    **flags: Any,
) -> SweepResults:
    """Runs a sweep from Python or a notebook, like a job.

    Args:
        strategy_name: a file of jobs/, such as "asha".
        task: the name of a task, or a training function `train(config)` or `train(config, data)`.
        space: parameter -> Ray's domain; for a training function.
        objective: another name for `task`, as in Optuna.
        config: another name for `space`, as in Ray Tune.
        metric: what to optimise.
        mode: "max" or "min".
        points: configurations to try first, or `{"config": …, "value": …}` with a known value.
        points_to_evaluate: another name for `points`, as in Ray Tune.
        data: passed to each trial through the object store; for a training function.
        mutable: parameters that PBT may change; for a training function.
        reuse_actors: see `Task`; for a training function.
        storage: folder or s3://bucket/prefix.
        knobs: the strategy's own knobs.
        **flags: the other flags of a job: samples, max_iterations, cpus_per_trial, gpus_per_trial, seed, name, …

    Returns:
        The results: `.best`, `.table` (a pandas DataFrame), `.load()` (the best trial's state).

    Raises:
        BadInput: all problems; nothing was started.
        SweepFailed: trials failed beyond `max_failures`, or none reported.
    """
    strategy = load_strategy(strategy_name)
    task = _one("task", task, "objective", objective)
    space = _one("space", space, "config", config)
    points = _one("points", points, "points_to_evaluate", points_to_evaluate)
    known = [field.name for field in dataclasses.fields(Flags)]
    if wrong := [key for key in flags if key not in known]:
        raise BadInput(*(f"`{key}` is not an argument of run{nearest(key, known)}" for key in wrong))
    given = flags | {"metric": metric, "mode": mode, "storage": None if storage is None else str(storage)}
    all_flags, problems = checked(Flags, given)
    all_knobs = knobs_of(strategy, knobs or {})
    if isinstance(task, str):
        task = tasks.load(task)
    elif not isinstance(task, Task):
        load = (lambda root: data) if data is not None else None
        own = {"space": space, "mutable": mutable, "load_data": load, "reuse_actors": reuse_actors}
        task = _task_of(task, given, all_flags, own)
    parsed_points = tuple(parse(points, task.space)) if points else ()
    all_flags = dataclasses.replace(all_flags, task=task.name)
    with _restored_globals():
        results = check_and_run(strategy, all_flags, all_knobs, task, parsed_points, problems)
    if results is None:
        raise BadInput("`dry_run`: no problems found, nothing was started")
    return results


def _one(name: str, value: Any, other: str, same: Any) -> Any:
    """An argument that has two names."""
    if value is not None and same is not None:
        raise BadInput(f"`{name}` and `{other}` are the same argument: give one of them")
    return same if value is None else value


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


def _task_of(train: Callable[..., None] | None, given: dict[str, Any], flags: Flags, own: dict[str, Any]) -> Task:
    """The task of a training function, of these flags as they were given and checked, and what only a task has."""
    if train is None:
        raise BadInput("`task` is missing: give the name of a task, or a training function")
    needed = {name: (own | given).get(name) for name in ("space", "metric", "mode", "max_iterations")}
    if missing := [name for name, value in needed.items() if value is None]:
        raise BadInput(*(f"`{name}` must be given with a training function" for name in missing))
    # One that was refused is reported with all the others; until then any will do.
    mode, most = flags.mode or "max", flags.max_iterations or 1
    return Task(train.__name__, train, metric=flags.metric or "", mode=mode, max_iterations=most, **own)
