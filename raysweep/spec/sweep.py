"""A sweep: one run of one strategy on one task."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ray import tune

from raysweep import env, kit
from raysweep.errors import BadInput
from raysweep.spec import catalogue
from raysweep.spec.flags import Flags, checked, default_name, flag_name, nearest
from raysweep.spec.initial_points import Point
from raysweep.spec.observations import Observation
from raysweep.spec.resources import request_of
from raysweep.spec.rules import check, rule
from raysweep.spec.task import Task
from raysweep.values import is_number

DEFAULT_SAMPLES = 20


@dataclass(frozen=True)
class Strategy:
    """A search algorithm and a scheduler, defined by a file of jobs/.

    Attributes:
        name: the file's name.
        tune_config: `tune_config(sweep, knobs)` returns Ray's TuneConfig.
        knobs: the dataclass of the strategy's own knobs.
        doc: the file's docstring.
    """

    name: str
    tune_config: Callable[[Sweep, Any], tune.TuneConfig]
    knobs: type
    doc: str


@dataclass(frozen=True)
class Sweep:
    """The input of a strategy's `tune_config`; a flag takes precedence over the task's own value.

    Attributes:
        name: the sweep's name in the storage.
        strategy: the strategy's name.
        task: what is tuned.
        space: the search space, of Ray's domains.
        metric: what is optimised.
        mode: "max" or "min".
        samples: number of trials; for a grid, passes over it.
        max_iterations: iterations of a complete trial.
        points: configurations to try first.
        seed: of the search and the scheduler.
        storage: folder or s3:// url that holds all sweeps.
        cpus: of a trial.
        gpus: of a trial.
        workers: of a trial; CPUs and GPUs are those of each.
        earlier: what earlier sweeps have observed, for the search.
    """

    name: str
    strategy: str
    task: Task
    space: dict[str, Any]
    metric: str
    mode: str
    samples: int
    max_iterations: int
    points: tuple[Point, ...]
    seed: int
    storage: str
    cpus: float = 1.0
    gpus: float = 0.0
    workers: int = 1
    earlier: tuple[Observation, ...] = ()

    def refuse_points(self, why: str, values_only: bool = False) -> None:
        """Called by a strategy that cannot use `--points`, or no known values.

        Raises:
            BadInput: there are points (with known values, if `values_only`).
        """
        unusable = [point for point in self.points if point.value is not None or not values_only]
        if unusable:
            what = "known values in `--points`" if values_only else "`--points`"
            raise BadInput(f"`{self.strategy}` cannot use {what} ({len(unusable)} given): {why}")


def default_storage() -> str:
    """$RAYSWEEP_STORAGE, else the folder `runs`."""
    return os.environ.get(env.RAYSWEEP_STORAGE) or str(Path("runs").absolute())


def settle(flags: Flags, strategy: str, task: Task, points: tuple[Point, ...]) -> Sweep:
    """The sweep of these flags; the task supplies what they leave out."""
    one_pass, asked = strategy == "grid", request_of(task.train, task.space)
    return Sweep(
        name=flags.name or default_name(task.name, strategy),
        strategy=strategy,
        task=task,
        space=task.space,
        metric=flags.metric or task.metric,
        mode=flags.mode or task.mode,
        samples=flags.samples if flags.samples is not None else (1 if one_pass else DEFAULT_SAMPLES),
        max_iterations=flags.max_iterations if flags.max_iterations is not None else task.max_iterations,
        points=points,
        seed=flags.seed,
        storage=flags.storage or default_storage(),
        cpus=_first(flags.cpus_per_trial, asked.cpus, 1.0),
        gpus=_first(flags.gpus_per_trial, asked.gpus, 0.0),
        workers=flags.workers_per_trial,
    )


def _first(*values: float | None) -> float:
    """The first of them that is not None; the last one is not."""
    return next(value for value in values if value is not None)


def strategies() -> list[str]:
    """The names of the strategies: those of this folder's jobs/, and the kit's."""
    return list(catalogue.strategies(Path.cwd()))


def strategy(name: str) -> Strategy:
    """The strategy in jobs/<name>.py of this folder, or else of the kit.

    Raises:
        BadInput: there is no such strategy; names the nearest match.
    """
    if name not in strategies():
        raise BadInput(
            f"`{name}` is not a strategy{nearest(str(name), strategies())}; choose one of: {', '.join(strategies())}"
        )
    entry = catalogue.strategies(Path.cwd())[name]
    return strategy_of(importlib.import_module(f"{kit.PREFIX}jobs.{name}") if entry.is_kits else _own(entry.path), name)


def _own(path: Path) -> ModuleType:
    """The module of a project's own strategy: by its file, since any package may be called jobs."""
    spec = importlib.util.spec_from_file_location(f"_own_jobs.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its Knobs look for their types there
    spec.loader.exec_module(module)
    return module


def strategy_of(module: ModuleType, name: str) -> Strategy:
    """The strategy of a job's module; its knobs are the dataclass called Knobs, if it has one."""
    knobs = getattr(module, "Knobs", NoKnobs)
    return Strategy(name, module.tune_config, knobs, inspect.getdoc(module) or "")


@dataclass(frozen=True)
class NoKnobs:
    """The knobs of a strategy that has none."""


def knobs_of(strategy: Strategy, values: dict[str, Any]) -> Any:
    """The strategy's knobs with some values changed.

    Raises:
        BadInput: a name is not one of its knobs (names the nearest match), or a value is not what it may be.
    """
    knobs, problems = checked_knobs(strategy, values)
    if problems:
        raise BadInput(*problems)
    return knobs


def checked_knobs(strategy: Strategy, values: dict[str, Any]) -> tuple[Any, list[str]]:
    """The strategy's knobs with those values that are right, and what is wrong with the others."""
    known = [field.name for field in dataclasses.fields(strategy.knobs)]
    unknown = [
        f"`{key}` is not a knob of {strategy.name}{nearest(str(key), known)}" for key in values if key not in known
    ]
    knobs: Any
    knobs, wrong = checked(strategy.knobs, values)
    return knobs, unknown + wrong


def knob_problems(sweep: Sweep, knobs: Any) -> list[str]:
    """What is wrong with knobs whose limits the sweep sets; `checked` has checked each of them alone.

    A default is not held to them: of a short sweep it may say nothing, and nobody has asked for it.
    """
    problems = []
    for field in dataclasses.fields(knobs):
        value = getattr(knobs, field.name)
        of_sweep = {k: v for k, v in field.metadata.get("limits", {}).items() if not is_number(v)}
        limits = {k: v(sweep, knobs) if callable(v) else getattr(sweep, v) for k, v in of_sweep.items()}
        if limits and value != field.default:
            _, problem = check(flag_name(field), value, rule(float, **limits))
            problems += [f"{problem}, with --max-iterations {sweep.max_iterations}"] if problem else []
    return problems


def most_brackets(sweep: Sweep, knobs: Any) -> float:
    """How many brackets of asynchronous HyperBand have a rung at all; a trial in another one is never stopped."""
    eta, rungs = knobs.reduction_factor, sweep.max_iterations / knobs.grace_period
    return max(1, int(math.log(rungs, eta)) + 1)
