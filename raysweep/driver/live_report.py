"""Keeps report.html up to date while its sweep runs."""

from __future__ import annotations

import threading
import time

from raysweep.history.sweep_state import Result, TrialRecord
from raysweep.loop.observers import Observer
from raysweep.reporting.write import OFTEN_S, SHORT_S, write_if_possible
from raysweep.storage import Storage

MOST_OF_TIME = 0.01  # of the driver's time, that its pages take


class LiveReport(Observer):
    """Writes the page on a thread of its own, from the journal: the loop's own state changes meanwhile.

    Args:
        place: the sweep's own folder or prefix.
        first: seconds until the first page.
        often: seconds between two pages, at least.
    """

    def __init__(self, place: Storage, first: float = SHORT_S, often: float = OFTEN_S) -> None:
        self._place, self._often = place, often
        self._due, self._news = time.monotonic() + first, False
        self._thread: threading.Thread | None = None

    def reported(self, trial: TrialRecord, result: Result) -> None:
        """There is something new to show."""
        self._news = True

    def ended(self, trial: TrialRecord) -> None:
        """There is something new to show."""
        self._news = True

    def turn(self) -> None:
        """Starts a new page if it is time for one."""
        if self._news and time.monotonic() >= self._due and not (self._thread and self._thread.is_alive()):
            self._news = False
            self._thread = threading.Thread(target=self._write, name="report", daemon=True)
            self._thread.start()

    def _write(self) -> None:
        took = write_if_possible(self._place)
        self._due = time.monotonic() + max(self._often, took / MOST_OF_TIME)

    def close(self) -> None:
        """Waits for a page that is being made: it would replace the last one."""
        if self._thread:
            self._thread.join()
