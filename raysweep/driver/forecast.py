"""How long a sweep would take, and what it would cost: its own strategy and loop, on a simulated clock.

An iteration takes what the model of the measured ones says. What trials would report is not known; so each comes down
to a loss that chance gives it, and all at about the same pace: then as many are stopped early as with any task that
ranks its configurations after a few iterations as after many. The search has the seed of the sweep, so a random one
draws in each simulation what it will draw; what comes of it, and the error of the model, differ from one to the next,
and the interval is over all of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ray import tune

from raysweep.driver.pace import Pace
from raysweep.history.cost import Rate
from raysweep.history.results import Objective
from raysweep.history.sweep_state import ENDED, SweepState
from raysweep.loop.assemble import SYNCHRONOUS, Assembly
from raysweep.loop.simulation import Step, simulate
from raysweep.optuna_quiet import silent
from raysweep.spec.configuration import Codec
from raysweep.spec.flags import Flags
from raysweep.spec.sweep import Sweep
from raysweep.values import AUTOMATIC_METRICS, TIME_THIS_ITER_S, is_number, to_json

SIMULATIONS = 20
MOST_S = 20.0  # that all simulations may take: of a large sweep there are fewer
INTERVAL = (0.05, 0.5, 0.95)
SLOWER = (0.6, 0.8)  # of what a simulated loss is above its best one, is left after an iteration
CHANGE = 0.1  # standard deviation of what a changed configuration makes of that best one, which is from 0 to 1


@dataclass(frozen=True)
class Seconds:
    """What was measured, in seconds.

    Attributes:
        pace: of an iteration, by configuration.
        setup: that the first iteration of a trial takes longer.
        fresh: the same, of the first trial of a process.
        between: from the end of a trial to the start of the next one in its place.
    """

    pace: Pace
    setup: float
    fresh: float
    between: float


@dataclass(frozen=True)
class Estimate:
    """An amount with the interval that has 90% of the simulations."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """That of simulated values."""
        low, middle, high = np.quantile(values, INTERVAL)
        return cls(float(low), float(middle), float(high))


@dataclass(frozen=True)
class Forecast:
    """What a sweep would take.

    Attributes:
        wall: seconds of its loop, until the last trial has ended.
        work: seconds of all its trials.
        iterations: of all its trials.
        trials: that end; fewer than the sweep has, if a budget ends it.
        cost: in the currency of the prices; None without them.
        simulations: how many there were.
    """

    wall: Estimate
    work: Estimate
    iterations: Estimate
    trials: Estimate
    cost: Estimate | None
    simulations: int


class _Level(NamedTuple):
    """How far a simulated trial has got, which it saves: its loss comes down to its best one, more slowly each time.

    Attributes:
        best: metric -> what its loss comes down to.
        above: how far it still is above that.
        config: with which it got there.
    """

    best: dict[str, float]
    above: float
    config: str


class _Outcome:
    """The outcomes of one simulated sweep."""

    def __init__(
        self, sweep: Sweep, objective: Objective, seconds: Seconds, places: int, saves: bool, seed: int
    ) -> None:
        self._random, self._seconds, self._places = np.random.default_rng(seed), seconds, places
        signs = dict(zip(objective.metrics, objective.modes, strict=True))
        self._signs = {
            name: -1 if mode == "max" else 1 for name, mode in signs.items() if name not in AUTOMATIC_METRICS
        }
        self._saves, self._reuse = saves, sweep.task.reuse_actors
        self._codec, self._paces = Codec(sweep.space), dict[str, float]()
        self._deviations = float(self._random.standard_normal())
        self._levels: dict[str, _Level] = {}

    def __call__(self, trial: str, config: dict[str, Any], iteration: int, state: _Level | None) -> Step:
        """The next iteration of a trial; one that goes on from another one begins where that is."""
        written = self._codec.write(config)
        key = to_json(written)
        level = self._next(state or self._levels.get(trial), key)
        self._levels[trial] = level
        seconds = self._pace(key, written) + (self._start(trial) if iteration == 1 else 0.0)
        metrics = {name: sign * (level.best[name] + level.above) for name, sign in self._signs.items()}
        return Step(metrics, seconds, level if self._saves else None)

    def _next(self, before: _Level | None, key: str) -> _Level:
        best = before.best if before else {name: self._random.random() for name in self._signs}
        if before and before.config != key:  # another configuration goes on: it may be better, or worse
            best = {name: each + CHANGE * self._random.standard_normal() for name, each in best.items()}
        return _Level(best, (before.above if before else 1.0) * self._random.uniform(*SLOWER), key)

    def _start(self, trial: str) -> float:
        """What the first iteration of a trial takes longer; the first processes have been started before the sweep."""
        if int(trial) < self._places:
            return self._seconds.fresh
        return self._seconds.between + (self._seconds.setup if self._reuse else self._seconds.fresh)

    def _pace(self, key: str, written: dict[str, Any]) -> float:
        if key not in self._paces:
            self._paces[key] = self._seconds.pace.seconds([written], self._deviations)[0]
        return self._paces[key]


def forecast(
    sweep: Sweep,
    flags: Flags,
    config_of: Callable[[Sweep], tune.TuneConfig | None],
    seconds: Seconds,
    places: int,
    rate: Rate | None,
) -> Forecast:
    """What a sweep would take.

    Args:
        sweep: its settings.
        flags: its budgets and limits.
        config_of: makes the strategy's TuneConfig anew; it has been checked.
        seconds: what was measured.
        places: trials at the same time.
        rate: what the sweep costs by the hour, if that is known.
    """
    began, states = time.monotonic(), list[SweepState]()
    for seed in itertools.count():
        if seed >= SIMULATIONS or (seed >= 2 and time.monotonic() - began > MOST_S):
            break
        states.append(_simulated(sweep, flags, config_of, seconds, places, rate, seed))
    walls, works = [_wall(state) for state in states], [_work(state) for state in states]
    costs = [rate.cost(wall, work) for wall, work in zip(walls, works, strict=True)] if rate else []
    return Forecast(
        wall=Estimate.of(walls),
        work=Estimate.of(works),
        iterations=Estimate.of([sum(len(trial.results) for trial in state.trials.values()) for state in states]),
        trials=Estimate.of([state.count(*ENDED) for state in states]),
        cost=Estimate.of(costs) if rate else None,
        simulations=len(states),
    )


def _simulated(
    sweep: Sweep,
    flags: Flags,
    config_of: Callable[[Sweep], tune.TuneConfig | None],
    seconds: Seconds,
    places: int,
    rate: Rate | None,
    seed: int,
) -> SweepState:
    config = config_of(sweep)
    assert config is not None
    saves = isinstance(config.scheduler, SYNCHRONOUS)
    with silent():
        objective = Assembly(config, sweep, flags).objective
        outcome = _Outcome(sweep, objective, seconds, places, saves, seed)
        return simulate(config, sweep, outcome, places=places, flags=flags, rate=rate)


def _wall(state: SweepState) -> float:
    """When the last thing happened; that the loop then looks once more at its budget takes no time."""
    ends = (max(trial.completed, trial.last.time if trial.last else 0.0) for trial in state.trials.values())
    return max(ends, default=0.0)


def _work(state: SweepState) -> float:
    every = (each for trial in state.trials.values() for each in (*trial.results.values(), *trial.abandoned))
    took: list[Any] = [result.metrics.get(TIME_THIS_ITER_S) for result in every]
    return sum(float(each) for each in took if is_number(each))
