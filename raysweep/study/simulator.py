"""`raysweep simulate`: the strategies of jobs/ on recorded learning curves, with their recorded seconds."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from raysweep.errors import BadInput
from raysweep.history.sweep_state import Result, TrialRecord
from raysweep.loop.assemble import SYNCHRONOUS
from raysweep.loop.observers import Observer
from raysweep.loop.simulation import simulate
from raysweep.optuna_quiet import silent
from raysweep.ray_private import is_one_bracket
from raysweep.spec.flags import Flags
from raysweep.spec.sweep import Strategy, Sweep, checked_knobs, strategy
from raysweep.spec.task import Task
from raysweep.study.curves import Curves, Replay
from raysweep.study.trajectory import Trajectory, of_reports


@dataclass(frozen=True)
class Contender:
    """A strategy with its knobs.

    Attributes:
        label: as it was asked for: `asha`, or `asha --grace-period 3`.
        strategy: a file of jobs/.
        knobs: its own.
    """

    label: str
    strategy: Strategy
    knobs: Any


@dataclass(frozen=True)
class Conditions:
    """What all simulated sweeps have in common.

    Attributes:
        workers: trials at the same time.
        seconds: simulated wall time after which a sweep ends.
        population: trials of population based training: as many as are trained to the end in that time.
        most: trials of any other strategy, which it never begins all.
    """

    workers: int
    seconds: float
    population: int
    most: int


def contender(text: str) -> Contender:
    """A strategy with the flags that its job takes, such as `asha --grace-period 3`.

    Raises:
        BadInput: there is no such strategy, or a flag is not one of its own.
    """
    name, *words = shlex.split(text) or [""]
    chosen = strategy(name)
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        raise BadInput(f"`--strategy {text}`: a strategy and its own flags are allowed: name --flag value")
    values = {flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}
    knobs, problems = checked_knobs(chosen, values)
    if problems:
        raise BadInput(*(f"`--strategy {text}`: {problem}" for problem in problems))
    return Contender(text, chosen, knobs)


def conditions(curves: Curves, workers: int, budget: float | None, trials: int = 20) -> Conditions:
    """The conditions of a budget in seconds, or of the time that so many complete trials take.

    Args:
        curves: of the table.
        workers: trials at the same time.
        budget: simulated seconds of wall time.
        trials: complete trials, if no budget is given.

    Raises:
        BadInput: not one trial would be complete in that time.
    """
    every = [curve.seconds for curve in curves]
    whole = float(np.mean([seconds.sum() for seconds in every]))
    seconds = budget or trials * whole / workers
    population = int(seconds * workers / whole + 1e-9)
    if population < 1:
        raise BadInput(f"`--budget {budget:g}`: a complete trial takes {whole:.3g} s, on {workers} workers: give more")
    fastest = max(float(np.quantile(np.concatenate(every), 0.01)), 1e-9)
    return Conditions(workers, seconds, population, max(population, math.ceil(seconds * workers / fastest)))


def trajectories(curves: Curves, asked: Contender, at: Conditions, seeds: Sequence[int]) -> Iterator[Trajectory]:
    """One simulated sweep for each seed."""
    for seed in seeds:
        yield run(curves, asked, at, seed)


def run(curves: Curves, asked: Contender, at: Conditions, seed: int) -> Trajectory:
    """One simulated sweep.

    Raises:
        BadInput: the strategy has several objectives, or cannot search this space.
    """
    table = curves.table
    task = Task(
        str(table.about["task"]), _never_called, table.space, table.metric, table.mode, table.max_iterations,
        mutable=None if table.about.get("mutable") is None else tuple(table.about["mutable"]),
    )  # fmt: skip
    sweep = Sweep(
        "simulated", asked.strategy.name, task, table.space, table.metric, table.mode, at.most, table.max_iterations,
        (), seed, "memory://",
    )  # fmt: skip
    config = _tune_config(asked, sweep, at)
    if (fitting := _sized(sweep, config, asked.knobs, at)) != sweep:
        sweep = fitting
        config = _tune_config(asked, sweep, at)
    heard, saves = _Reports(table.metric), isinstance(config.scheduler, SYNCHRONOUS)
    flags = Flags(time_budget=at.seconds)
    outcome = Replay(curves, seed, saves)
    with silent():
        simulate(config, sweep, outcome, places=at.workers, flags=flags, observer=heard)
    return of_reports(seed, table.mode, heard.seconds, heard.values)


def _tune_config(asked: Contender, sweep: Sweep, at: Conditions) -> tune.TuneConfig:
    try:
        config = asked.strategy.tune_config(sweep, asked.knobs)
    except (AssertionError, ValueError, TypeError) as error:  # Ray's own checks
        raise BadInput(f"`--strategy {asked.label}`: {error or 'refused by Ray'}: change the flag") from None
    if isinstance(getattr(config.search_alg, "metric", None), list):
        raise BadInput(f"`--strategy {asked.label}`: has several objectives, and a table has one: leave it out")
    return config


def _sized(sweep: Sweep, config: tune.TuneConfig, knobs: Any, at: Conditions) -> Sweep:
    """The sweep with as many trials as the budget trains to its end, if all of them wait for each other."""
    if isinstance(config.scheduler, PopulationBasedTraining):
        return replace(sweep, samples=at.population)
    if is_one_bracket(config.scheduler):
        paid = paid_for(at.population, sweep.max_iterations, knobs.grace_period, knobs.reduction_factor)
        return replace(sweep, samples=paid)
    return sweep


def paid_for(trials: float, iterations: int, grace_period: int = 1, reduction_factor: float = 3.0) -> int:
    """About how many trials a budget pays for, if only the best 1/eta of each rung r, r eta, r eta^2, … go on.

    Args:
        trials: complete ones that the budget has room for.
        iterations: of a complete trial.
        grace_period: r.
        reduction_factor: eta.
    """
    rungs = [float(grace_period)]
    while rungs[-1] * reduction_factor < iterations:
        rungs.append(rungs[-1] * reduction_factor)
    steps = itertools.pairwise([*rungs, float(iterations)])
    spent = rungs[0] + sum((end - rung) / reduction_factor ** (n + 1) for n, (rung, end) in enumerate(steps))
    return max(math.floor(trials * iterations / spent), int(trials), 1)


def _never_called(config: dict[str, Any]) -> None:
    """Stands for the training function, whose results are in the table."""


@dataclass
class _Reports(Observer):
    """Keeps the metric of each report, with its second."""

    metric: str
    seconds: list[float] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """Called with each result."""
        self.seconds.append(result.time)
        self.values.append(result.metrics.get(self.metric))
