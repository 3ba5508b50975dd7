"""The limits that end a trial because of its result, and a whole sweep before all its trials have ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from raysweep.history.cost import Rate
from raysweep.history.sweep_state import TrialRecord
from raysweep.values import TIME_TOTAL_S, TRAINING_ITERATION, finite

SAME_FAILURES = 3  # if the first trials fail the same way, and none has reported, the others would fail, too
FIRST_S = 60.0  # of a sweep, in which such failures are counted


class TrialLimits:
    """Whether a result completes its trial or ends it, in a live run as in a replay.

    Args:
        max_iterations: of a complete trial.
        metrics: that must stay finite numbers, or the trial is stopped; may be empty.
        timeout: seconds that a trial may run.
    """

    def __init__(self, max_iterations: int, metrics: tuple[str, ...] = (), timeout: float | None = None) -> None:
        self._max_iterations, self._metrics, self._timeout = max_iterations, metrics, timeout or math.inf

    def __call__(self, result: dict[str, Any]) -> bool:
        """Called with each result."""
        diverged = not all(finite(result[name]) for name in self._metrics if name in result)
        complete = result[TRAINING_ITERATION] >= self._max_iterations
        return diverged or complete or bool(result.get(TIME_TOTAL_S, 0.0) >= self._timeout)


class Spending:
    """What a sweep has cost, and may cost.

    Args:
        rate: what it costs by the hour.
        budget: what it may cost in all.
        spent: what its earlier runs have cost.
    """

    def __init__(self, rate: Rate, budget: float, spent: float = 0.0) -> None:
        self.rate, self.budget, self.spent = rate, budget, spent
        self._since = 0.0

    def until(self, seconds: float, running: int) -> bool:
        """Adds what it has cost since the last call; returns whether the budget is used up.

        Args:
            seconds: for how long this run of the sweep has lasted.
            running: trials that ran meanwhile.
        """
        self.spent += self.rate.cost(seconds - self._since, (seconds - self._since) * running)
        self._since = seconds
        return self.spent >= self.budget


class SweepLimits:
    """Whether a sweep has to end now, although trials are left.

    Args:
        budget: seconds that the sweep may run.
        total: trials of the sweep.
        clock: returns seconds, from an arbitrary start.
        spending: what it may cost, if that is limited.
    """

    def __init__(
        self, budget: float | None, total: int, clock: Callable[[], float], spending: Spending | None = None
    ) -> None:
        self._clock, self._began = clock, clock()
        self.spending, self.running = spending, 0  # trials that run until the next turn of the loop
        self.budget, self._enough = budget or math.inf, min(SAME_FAILURES, total or SAME_FAILURES)
        self._reported = False
        self._failed: list[str] = []
        self.refused: str | None = None  # why the storage refuses checkpoints
        self.out_of_time = False  # whether the sweep's time budget is used up
        self.out_of_money = False  # whether its cost budget is

    @property
    def out_of_budget(self) -> bool:
        """Whether one of the budgets is used up, which ends a sweep in order."""
        return self.out_of_time or self.out_of_money

    @property
    def reached(self) -> bool:
        """Checked in each turn of the loop."""
        seconds = self.seconds
        self.out_of_time = self.out_of_time or seconds >= self.budget
        if self.spending is not None and self.spending.until(seconds, self.running):
            self.out_of_money = True
        return self.out_of_budget or self.refused is not None or self.hopeless

    @property
    def seconds(self) -> float:
        """How long the sweep has run."""
        return self._clock() - self._began

    @property
    def hopeless(self) -> bool:
        """Whether the first trials all failed soon, and in the same way."""
        return not self._reported and len(self._failed) >= self._enough and len(set(self._failed)) == 1

    def reported(self) -> None:
        """A trial has reported."""
        self._reported = True

    def failed(self, trial: TrialRecord) -> None:
        """A trial failed for good."""
        if self.seconds < FIRST_S:
            last = trial.failures[-1].splitlines()[-1:]
            self._failed.append(f"{trial.kinds[-1]} {' '.join(last)}")
