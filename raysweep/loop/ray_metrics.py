"""A sweep's own figures among those of Ray, for Prometheus, which scrapes them with the prefix `ray_`.

https://docs.ray.io/en/latest/ray-observability/user-guides/add-app-metrics.html

All of them are gauges, also those that only grow: each says what the journal adds up to, earlier drivers of the sweep
included. A counter of Ray's would begin anew with each driver, lack what its last one counted in the seconds before it
died, and stay among Ray's metrics as long as the cluster is up; these go with their driver. Ray sends them every ten
seconds, see RAY_metrics_report_interval_ms.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from ray.util.metrics import Gauge

from raysweep import env
from raysweep.history.results import Objective
from raysweep.history.sweep_state import ENDED, Result, SweepState, TrialRecord
from raysweep.loop.failures import Kind
from raysweep.loop.observers import Observer
from raysweep.loop.places import Stage

STATUSES = ("pending", "running", *ENDED)
TAGS = ("sweep", "strategy", "task")  # of each figure
# name -> what it is, and the tags that it has besides.
FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "raysweep_trials": ("Trials by their status in the journal; a pending one has no report yet", ("status",)),
    "raysweep_planned_trials": ("Trials of the whole sweep", ()),
    "raysweep_results": ("Iterations that trials have reported", ()),
    "raysweep_best": ("The best value of an optimised metric so far", ("metric", "mode")),
    "raysweep_checkpoints": ("Checkpoints that were saved and verified", ()),
    "raysweep_checkpoint_bytes": ("Bytes of these checkpoints", ()),
    "raysweep_checkpoint_stall_seconds": ("Seconds for which trials have waited for them", ()),
    "raysweep_failures": ("Failures of trials by their kind, those included after which a trial went on", ("kind",)),
    "raysweep_places": ("Places for trials that the sweep holds or has asked for, by what goes on there", ("stage",)),
}


class Figure(NamedTuple):
    """One value, with its tags besides those that all have."""

    name: str
    tags: dict[str, str]
    value: float


def is_on() -> bool:
    """Whether Ray collects metrics; if it is told not to, none are set."""
    return os.environ.get(env.RAY_enable_metrics_collection, "1").lower() not in ("0", "false")


class RayMetrics(Observer):
    """Sets the figures at each turn of the loop.

    Args:
        state: the sweep's state, which the recorder keeps up to date.
        objective: whose best values are shown.
        total: trials of the whole sweep.
        tags: values of TAGS.
        places: how many places there are, by their stage.
    """

    def __init__(
        self,
        state: SweepState,
        objective: Objective,
        total: int,
        tags: Mapping[str, str],
        places: Callable[[], Mapping[Stage, int]],
    ) -> None:
        self._state, self._objective, self._total, self._places = state, objective, total, places
        self._tags, self._gauges = dict(tags), dict[str, Gauge]()
        self._changed = set(state.trials)  # trials whose best values may have changed
        self._best: list[dict[str, float]] = [{} for _ in objective.metrics]  # of each metric: trial -> value

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """The trial may have a better value than before, or a worse one: if it repeats an iteration."""
        self._changed.add(trial.id)

    def begin(self) -> None:
        """What earlier drivers have left is there from the start."""
        self._gauges = {name: Gauge(name, text, (*TAGS, *more)) for name, (text, more) in FIGURES.items()}
        self.turn()

    def turn(self) -> None:
        """Sets all figures."""
        for name, tags, value in self.figures():
            self._gauges[name].set(value, self._tags | tags)

    def close(self) -> None:
        """Sets them a last time; Ray may send them once more."""
        if self._gauges:
            self.turn()

    def figures(self) -> Iterator[Figure]:
        """All figures, as the journal has them now."""
        state, places = self._state, self._places()
        for status in STATUSES:
            yield Figure("raysweep_trials", {"status": status}, state.count(status))
        yield Figure("raysweep_planned_trials", {}, self._total)
        yield Figure("raysweep_results", {}, state.reports)
        yield from self._bests()
        yield Figure("raysweep_checkpoints", {}, state.saves)
        yield Figure("raysweep_checkpoint_bytes", {}, state.saved_bytes)
        yield Figure("raysweep_checkpoint_stall_seconds", {}, state.stalled_s)
        for kind in Kind:
            yield Figure("raysweep_failures", {"kind": str(kind)}, state.failed_by[kind])
        for stage in Stage:
            yield Figure("raysweep_places", {"stage": stage.value}, places.get(stage, 0))

    def _bests(self) -> Iterator[Figure]:
        changed, self._changed = self._changed, set()
        for metric, mode, best in zip(self._objective.metrics, self._objective.modes, self._best, strict=True):
            for trial in changed:
                best.pop(trial, None)
                if (result := self._state.trials[trial].best(metric, mode)) is not None:
                    with contextlib.suppress(OverflowError):  # an integer that no float can hold
                        best[trial] = float(result.metrics[metric])
            if best:
                value = max(best.values()) if mode == "max" else min(best.values())
                yield Figure("raysweep_best", {"metric": metric, "mode": mode}, value)
