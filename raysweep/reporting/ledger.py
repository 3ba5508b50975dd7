"""What the time of a sweep went into, from its journal: when its driver ran, what its trials worked, what was lost."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from raysweep.history.cost import Costs, Rate, costs
from raysweep.history.segments import Event
from raysweep.history.sweep_state import BY_LIMIT, SweepState, TrialRecord
from raysweep.values import TIME_THIS_ITER_S, is_number

PAUSE_S = 1.0  # between two iterations of a trial on one node: less than that is no pause, but the driver's decision


@dataclass
class Spell:
    """A stretch of time in which a trial worked on a node without a pause, in seconds of the sweep's own clock.

    `lost` if it ended in a failure, so that nothing of it was reported.
    """

    trial: str
    node: str
    began: float
    ended: float
    lost: bool = False


@dataclass(frozen=True)
class Reported:
    """A result as it came: at which second of the sweep, and after how many seconds of work of all trials."""

    trial: str
    iteration: int
    metrics: dict[str, Any]
    wall: float
    work: float


@dataclass
class Ledger:
    """The journal's times, added up; all are seconds.

    Attributes:
        wall: that a driver ran; the time between two drivers is left out.
        work: of all trials, each counted once, however many CPUs it has.
        repeated: work that was done again, since a trial went on from a checkpoint before its failure.
        broken: from a trial's last report, or its start, to its failure.
        worked: trial -> its part of the work.
        reports: the results, in the order in which they came.
        spells: when each trial worked, and where.
        exploits: the events of population based training, each with its `wall`.
        settings: what each driver has written of itself at its start.
    """

    wall: float = 0.0
    work: float = 0.0
    repeated: float = 0.0
    broken: float = 0.0
    worked: dict[str, float] = field(default_factory=dict)
    reports: list[Reported] = field(default_factory=list)
    spells: list[Spell] = field(default_factory=list)
    exploits: list[dict[str, Any]] = field(default_factory=list)
    settings: list[Event] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Ledger:
        """That of a journal."""
        return _Folding(events).ledger

    def costs(self, rate: Rate, saved: Iterable[Rung]) -> Costs:
        """What all that has cost.

        Args:
            rate: by the hour.
            saved: where the scheduler stopped trials, see `rungs`.
        """
        spared = sum(rung.spared for rung in saved)
        return costs(rate, self.wall, self.worked, self.repeated + self.broken, spared)


class _Folding:
    """One walk through a journal."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.ledger = Ledger()
        self._before, self._life_began = 0.0, None  # type: float, float | None
        self._free: dict[str, float] = {}  # when a trial's last spell ended, or it was suggested
        self._spells: dict[str, Spell] = {}  # the last one of each trial
        self._seconds: dict[str, dict[int, float]] = {}  # of the iterations that a trial has done
        for event in events:
            now = self._clock(event)
            if (fold := getattr(self, f"_{event['type']}", None)) is not None:
                fold(event, now)

    def _clock(self, event: Event) -> float:
        """The event's second on the clock of the sweep, which stands still while no driver runs."""
        time = float(event.get("time", 0.0))
        if self._life_began is None or event["type"] == "start":
            self._before, self._life_began = self.ledger.wall, time
        self.ledger.wall = max(self.ledger.wall, self._before + time - self._life_began)
        return self.ledger.wall

    def _start(self, event: Event, now: float) -> None:
        self.ledger.settings.append(event)
        self._free = dict.fromkeys(self._free, now)

    def _suggest(self, event: Event, now: float) -> None:
        self._free[event["trial"]] = now

    _retry = _suggest

    def _result(self, event: Event, now: float) -> None:
        trial, iteration, metrics = event["trial"], event["iteration"], event["metrics"]
        took = metrics.get(TIME_THIS_ITER_S)
        seconds = max(float(took), 0.0) if is_number(took) else 0.0
        done = self._seconds.setdefault(trial, {})
        self.ledger.repeated += done.get(iteration, 0.0)
        done[iteration] = seconds
        self._add(trial, seconds)
        self.ledger.reports.append(Reported(trial, iteration, metrics, now, self.ledger.work))
        if not event.get("adopted"):  # it was made in an earlier life, nobody knows when
            self._worked(trial, event["node"], now - seconds, now)

    def _add(self, trial: str, seconds: float) -> None:
        self.ledger.work += seconds
        self.ledger.worked[trial] = self.ledger.worked.get(trial, 0.0) + seconds

    def _worked(self, trial: str, node: str, began: float, ended: float, lost: bool = False) -> None:
        last = self._spells.get(trial)
        began = max(began, last.ended if last else 0.0, 0.0)
        self._free[trial] = ended
        if last and not lost and not last.lost and last.node == node and began - last.ended <= PAUSE_S:
            last.ended = ended
            return
        self._spells[trial] = Spell(trial, node, began, ended, lost)
        self.ledger.spells.append(self._spells[trial])

    def _exploit(self, event: Event, now: float) -> None:
        self.ledger.exploits.append({**event, "wall": now})
        self._seconds.pop(event["trial"], None)  # what it does again is not a repetition: it has other weights

    def _failure(self, event: Event, now: float) -> None:
        trial = event["trial"]
        began, last = self._free.get(trial, now), self._spells.get(trial)
        self.ledger.broken += now - began
        self._add(trial, now - began)
        self._worked(trial, last.node if last else "", began, now, lost=True)


def lanes(spells: Iterable[Spell]) -> list[tuple[Spell, int]]:
    """The spells of one node, each with the number of its lane: no two in a lane at the same time, as few as can be."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    placed = []
    for spell in sorted(spells, key=lambda each: (each.began, each.ended)):
        while busy and busy[0][0] <= spell.began + 1e-6:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (spell.ended, lane))
        placed.append((spell, lane))
    return placed


@dataclass(frozen=True)
class Rung:
    """An iteration at which the scheduler stopped trials.

    Attributes:
        iteration: after which they were stopped.
        reached: trials that got so far.
        stopped: the trials that it stopped there.
        spared: seconds that these would have worked on, an estimate: each at its own pace so far.
    """

    iteration: int
    reached: int
    stopped: list[TrialRecord]
    spared: float


def rungs(state: SweepState, max_iterations: int) -> list[Rung]:
    """Where the scheduler stopped trials, and what that has saved."""
    stopped: dict[int, list[TrialRecord]] = {}
    for trial in state.trials.values():
        by_scheduler = trial.status == "stopped" and trial.stopped_by != BY_LIMIT
        if trial.last and by_scheduler and trial.last.iteration < max_iterations:
            stopped.setdefault(trial.last.iteration, []).append(trial)
    reached = [trial.last.iteration for trial in state.trials.values() if trial.last]
    pace = _paces(state)
    return [
        Rung(
            iteration,
            sum(each >= iteration for each in reached),
            trials,
            sum(pace[trial.id] * (max_iterations - iteration) for trial in trials),
        )
        for iteration, trials in sorted(stopped.items())
    ]


def _paces(state: SweepState) -> dict[str, float]:
    """Seconds that an iteration of each trial takes: the median of its own but the first, which also starts a process.

    Of a trial that had only its first, it is the median of all trials; where all had only that, its own.
    """
    took = {trial.id: _seconds(trial) for trial in state.trials.values()}
    usual = median([second for seconds in took.values() for second in seconds[1:]] or [math.nan])
    own = {id: seconds[0] if seconds else 0.0 for id, seconds in took.items()}
    return {
        id: median(seconds[1:]) if len(seconds) > 1 else own[id] if math.isnan(usual) else usual
        for id, seconds in took.items()
    }


def _seconds(trial: TrialRecord) -> list[float]:
    """Of its iterations, in their order."""
    took: list[Any] = [result.metrics.get(TIME_THIS_ITER_S) for _, result in sorted(trial.results.items())]
    return [float(each) for each in took if is_number(each)]
