"""Who hears what has happened in a sweep, once it is in the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from raysweep.history.sweep_state import Result, TrialRecord

log = logging.getLogger(__name__)


class Observer:
    """Hears of each event after the journal has it. What it raises is logged, and ends neither trial nor sweep."""

    def begin(self) -> None:
        """The loop begins."""

    def turn(self) -> None:
        """The loop has turned once more: about once a second, more often where much happens."""

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """A trial has reported an iteration; `result` is the record's newest."""

    def failed(self, trial: TrialRecord, again: bool) -> None:
        """A trial failed, `trial.kinds[-1]` says how; `again` if it starts again. If not, `ended` follows."""

    def ended(self, trial: TrialRecord) -> None:
        """A trial ended for good, `trial.status` says how."""

    def waited(self, seconds: float, why: str) -> None:
        """No trial runs, since no place is free: for so many seconds of this wait already, and for whom."""

    def close(self) -> None:
        """The loop has ended."""


class Observers(Observer):
    """Several, each of which is told, whatever another one raises."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = list(observers)

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception as error:
                log.warning("%s: %s: %s", type(observer).__name__, type(error).__name__, error)

    def begin(self) -> None:
        """Told to each."""
        self._tell(lambda each: each.begin())

    def turn(self) -> None:
        """Told to each."""
        self._tell(lambda each: each.turn())

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """Told to each."""
        self._tell(lambda each: each.reported(trial, result))

    def failed(self, trial: TrialRecord, again: bool) -> None:
        """Told to each."""
        self._tell(lambda each: each.failed(trial, again))

    def ended(self, trial: TrialRecord) -> None:
        """Told to each."""
        self._tell(lambda each: each.ended(trial))

    def waited(self, seconds: float, why: str) -> None:
        """Told to each."""
        self._tell(lambda each: each.waited(seconds, why))

    def close(self) -> None:
        """Told to each."""
        self._tell(lambda each: each.close())
