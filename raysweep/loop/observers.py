"""Observers are notified of a sweep's events, once these are in the journal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable

from raysweep.history.sweep_state import Result, TrialRecord

log = logging.getLogger(__name__)


class Observer:
    """Is notified of each event after it was journalled. If it fails, the sweep goes on without it."""

    def begin(self) -> None:
        """The loop begins."""

    def turn(self) -> None:
        """The loop has made a turn: about once a second, or more often when there are many events."""

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """A trial has reported an iteration; `result` is the newest of its record."""

    def failed(self, trial: TrialRecord, again: bool) -> None:
        """A trial failed, see `trial.kinds[-1]`; `again` if it starts again. If not, `ended` follows."""

    def ended(self, trial: TrialRecord) -> None:
        """A trial ended for good, see `trial.status`."""

    def waited(self, seconds: float, why: str) -> None:
        """No trial is running, since no place is free: how long the wait has lasted, and who holds the places."""

    def close(self) -> None:
        """The loop has ended."""


class Observers(Observer):
    """Notifies several observers; one that raises an exception is closed, and notified of nothing more."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = list(observers)

    def _notify(self, call: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                call(observer)
            except Exception as error:
                self._observers.remove(observer)
                name, cause = type(observer).__name__, f"{type(error).__name__}: {error}"
                log.warning("%s has failed, and the sweep goes on without it: %s", name, cause)
                with contextlib.suppress(Exception):
                    observer.close()

    def begin(self) -> None:
        """Notifies all."""
        self._notify(lambda each: each.begin())

    def turn(self) -> None:
        """Notifies all."""
        self._notify(lambda each: each.turn())

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """Notifies all."""
        self._notify(lambda each: each.reported(trial, result))

    def failed(self, trial: TrialRecord, again: bool) -> None:
        """Notifies all."""
        self._notify(lambda each: each.failed(trial, again))

    def ended(self, trial: TrialRecord) -> None:
        """Notifies all."""
        self._notify(lambda each: each.ended(trial))

    def waited(self, seconds: float, why: str) -> None:
        """Notifies all."""
        self._notify(lambda each: each.waited(seconds, why))

    def close(self) -> None:
        """Notifies all."""
        self._notify(lambda each: each.close())
