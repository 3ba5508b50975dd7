"""How good the best result of a sweep was, by seconds and by iterations: of a finished sweep, or of a simulated one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import Result, SweepState
from raysweep.values import TIME_THIS_ITER_S, is_number

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Trajectory:
    """The best result so far, after each report of a sweep.

    Attributes:
        seed: of the sweep.
        mode: "max" or "min".
        seconds: wall time since the sweep's first trial began, by report; without the time between two runs of it.
        best: the best value so far, by report; NaN before the first finite one.
    """

    seed: int
    mode: str
    seconds: Array
    best: Array

    @property
    def iterations(self) -> int:
        """Iterations of all trials together."""
        return len(self.best)

    def at_iterations(self, count: int) -> float:
        """The best value of the first so many reports; NaN if there is none."""
        return float(self.best[min(count, len(self.best)) - 1]) if len(self.best) and count > 0 else float("nan")

    def at_seconds(self, seconds: float) -> float:
        """The best value by then; NaN if there is none."""
        return self.at_iterations(int(np.searchsorted(self.seconds, seconds, side="right")))

    def reached(self, target: float, up_to: int | None = None) -> tuple[float, float]:
        """Seconds and iterations until a value was reached; infinite if it was not, among the first `up_to` reports."""
        best = self.best[:up_to]
        with np.errstate(invalid="ignore"):
            hits = np.flatnonzero(best >= target if self.mode == "max" else best <= target)
        return (float(self.seconds[hits[0]]), float(hits[0] + 1)) if hits.size else (np.inf, np.inf)


def of_reports(seed: int, mode: str, seconds: Iterable[float], values: Iterable[Any]) -> Trajectory:
    """The trajectory of a sweep's reports, in the order in which they came."""
    numbers = np.array([float(value) if is_number(value) else np.nan for value in values])
    best = np.fmax.accumulate(numbers) if mode == "max" else np.fmin.accumulate(numbers)
    return Trajectory(seed, mode, np.array(list(seconds), float), best)


def of_sweep(results: SweepResults) -> Trajectory:
    """The trajectory of a finished sweep: each iteration counts once, those that an exploit abandoned, too."""
    reports = _reports(results.state)
    began = min((_began(each) for each in reports), default=0.0)
    metric, mode, idle = results.objective.metrics[0], results.objective.modes[0], _idle(results.state)
    seconds = [each.time - began - sum(gap for seq, gap in idle if seq < each.seq) for each in reports]
    return of_reports(results.spec["seed"], mode, seconds, [each.metrics.get(metric) for each in reports])


def _reports(state: SweepState) -> list[Result]:
    counted = {id(r): r for trial in state.trials.values() for r in (*trial.results.values(), *trial.abandoned)}
    return sorted(counted.values(), key=lambda each: each.seq)


def _idle(state: SweepState) -> list[tuple[int, float]]:
    """The journal's number and the seconds of each time in which no driver ran the sweep."""
    pairs = itertools.pairwise(state.events or [])
    return [(after["seq"], after["time"] - before["time"]) for before, after in pairs if after["type"] == "start"]


def _began(result: Result) -> float:
    return result.time - float(result.metrics.get(TIME_THIS_ITER_S, 0.0))
