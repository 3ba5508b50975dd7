"""The limits that end a trial because of its result, and a whole sweep before all its trials have ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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


class SweepLimits:
    """Whether a sweep has to end now, although trials are left.

    Args:
        budget: seconds that the sweep may run.
        total: trials of the sweep.
        clock: returns seconds, from an arbitrary start.
    """

    def __init__(self, budget: float | None, total: int, clock: Callable[[], float]) -> None:
        self._clock, self._began = clock, clock()
        self.budget, self._enough = budget or math.inf, min(SAME_FAILURES, total or SAME_FAILURES)
        self._reported = False
        self._failed: list[str] = []
        self.refused: str | None = None  # why the storage refuses checkpoints
        self.out_of_time = False  # whether the sweep's time budget is used up

    @property
    def reached(self) -> bool:
        """Checked in each turn of the loop."""
        self.out_of_time = self.out_of_time or self.seconds >= self.budget
        return self.out_of_time or self.refused is not None or self.hopeless

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
