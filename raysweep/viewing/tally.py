"""What one look at a sweep shows; each event costs the same, however long the sweep is."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from enum import Enum

from raysweep.history import lease, live
from raysweep.history.lease import LAPSE_SECONDS, Term
from raysweep.history.live import Live
from raysweep.history.results import SweepResults, best_trial
from raysweep.history.segments import Event
from raysweep.history.sweep_state import Result, TrialRecord, first_line
from raysweep.storage import Storage
from raysweep.values import is_number

WINDOW_S = 60.0  # in which results are counted for their rate
FAILURES = 5  # the last ones that are shown


class Driver(Enum):
    """What is known of the process that runs the sweep."""

    RUNS = "running"
    SILENT = "without a driver"  # it died, or cannot reach its storage
    LEAVES = "being written up"  # the last event is there, and what follows from it is written
    GONE = "gone"  # it has left in order


@dataclass(frozen=True)
class Failure:
    """One failure of a trial: its kind, and the line that says what happened."""

    trial: str
    kind: str
    line: str


class Tally:
    """A `Viewer` that counts.

    Attributes:
        sweep: the results, with their state.
        failures: the last ones.
        last: time of the last event, in seconds since the epoch by the driver's clock; 0 before the first.
        wall: seconds that a driver ran; the time between two drivers is left out.
    """

    def anew(self, sweep: SweepResults) -> None:
        """Forgets everything."""
        self.sweep, self.last, self.wall = sweep, 0.0, 0.0
        self.failures: deque[Failure] = deque(maxlen=FAILURES)
        self._clock: float | None = None  # of the newest driver
        self._times: deque[float] = deque()  # of the results in the last WINDOW_S
        self._term, self._began = 0, 0.0  # of the newest driver
        self._best: tuple[TrialRecord, Result] | None = None

    def happened(self, event: Event) -> None:
        """Counts an event."""
        now = float(event.get("time", 0.0))
        if event["type"] == "start":
            self._term, self._began = event.get("term", 0), now
            self._times.clear()
        elif self._clock is not None:
            self.wall += max(now - self._clock, 0.0)
            now = max(now, self._clock)
        self._clock = self.last = now
        if event["type"] == "result":
            self._times.append(now)
            self._drop(now)
            self._judge(self.sweep.state.trials[event["trial"]])
        elif event["type"] == "failure":
            self.failures.append(Failure(event["trial"], event["kind"], first_line(event["error"])))

    @property
    def results(self) -> int:
        """Reports of all drivers, repeated ones too."""
        return self.sweep.state.reports

    @property
    def failed(self) -> int:
        """Failures so far, those after which the trial started again too."""
        return self.sweep.state.failed_by.total()

    def rate(self, now: float) -> float | None:
        """Results a second in the last WINDOW_S of this driver; None in its first moment.

        Args:
            now: seconds since the epoch, by the driver's clock.
        """
        self._drop(now)
        seconds = min(WINDOW_S, now - self._began)
        return len(self._times) / seconds if seconds > 0 else None

    def _drop(self, now: float) -> None:
        while self._times and self._times[0] <= now - WINDOW_S:
            self._times.popleft()

    @property
    def best(self) -> tuple[TrialRecord, Result] | None:
        """The best trial of a single-objective sweep and its best result, as in `best.json`."""
        if self._best and not self._best[0].counts(self._best[1]):  # a trial has repeated it, and was worse
            self._best = best_trial(self.sweep.state, self.sweep.objective)
        return self._best

    def _judge(self, trial: TrialRecord) -> None:
        """Compares a trial's newest result with the best one."""
        objective, new = self.sweep.objective, trial.last
        if not objective.single or new is None or not is_number(new.metrics.get(objective.metrics[0])):
            return
        best = self.best
        if best is None or self._rank(trial, new) > self._rank(*best):
            self._best = trial, new

    def _rank(self, trial: TrialRecord, result: Result) -> tuple[float, int, int]:
        """Of equal values, the earlier trial is better, and the earlier iteration of a trial."""
        sign = 1 if self.sweep.objective.modes[0] == "max" else -1
        return sign * result.metrics[self.sweep.objective.metrics[0]], -int(trial.id), -result.iteration

    @property
    def term(self) -> int:
        """Of the newest driver's lease."""
        return self._term


class Pulse:
    """Whether a driver runs a sweep, and what only it knows.

    Args:
        place: the sweep's own folder or prefix.
    """

    def __init__(self, place: Storage) -> None:
        self._place = place
        self._term: Term | None = None
        self._changed = time.monotonic()

    def driver(self, tally: Tally) -> Driver:
        """What the lease and the journal say of the driver.

        A driver of another machine counts as silent when its lease has not changed for LAPSE_SECONDS.
        """
        newest = lease.newest(self._place)
        if newest != self._term:
            self._term, self._changed = newest, time.monotonic()
        away = newest is None or newest.free or self.silence > LAPSE_SECONDS
        if tally.sweep.state.exit_code is None:
            return Driver.SILENT if newest is not None and away else Driver.RUNS
        return Driver.GONE if away else Driver.LEAVES

    @property
    def silence(self) -> float:
        """Seconds since the lease changed, or since this began to look."""
        return time.monotonic() - self._changed

    def live(self, tally: Tally) -> Live | None:
        """What the newest driver wrote of its places; None if it wrote nothing yet."""
        found = live.read(self._place)
        return found if found and found.term == tally.term else None
