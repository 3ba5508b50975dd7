"""Writes what only the driver knows of its running sweep, for `raysweep watch`."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from raysweep.errors import StorageError
from raysweep.history.live import NAME, Live
from raysweep.loop.observers import Observer
from raysweep.loop.places import Usage
from raysweep.loop.progress import Progress
from raysweep.storage import Storage

FIRST_S, OFTEN_S = 1.0, 5.0  # until it is written first, and between two times

log = logging.getLogger(__name__)


class LiveStatus(Observer):
    """Keeps `live.json` up to date on a thread of its own: a slow store never stops the loop.

    Args:
        place: the sweep's own folder or prefix.
        term: of the driver's lease.
        progress: estimates the time that is left.
        usage: returns the use of the sweep's places.
        first: seconds until it is written first.
        often: seconds between two times.
    """

    def __init__(
        self,
        place: Storage,
        term: int,
        progress: Progress,
        usage: Callable[[], Usage],
        first: float = FIRST_S,
        often: float = OFTEN_S,
    ) -> None:
        self._place, self._term, self._progress, self._usage = place, term, progress, usage
        self._due, self._often = time.monotonic() + first, often
        self._thread: threading.Thread | None = None

    def turn(self) -> None:
        """Has it written, if it is time for that."""
        now = time.monotonic()
        if now >= self._due and not (self._thread and self._thread.is_alive()):
            self._due = now + self._often
            left = self._progress.seconds_left
            live = Live(self._term, time.time(), self._progress.total, *self._usage(), seconds_left=left)
            self._thread = threading.Thread(target=self._write, args=(live,), name="live", daemon=True)
            self._thread.start()

    def _write(self, live: Live) -> None:
        try:
            live.write(self._place)
        except StorageError as error:
            log.warning("`raysweep watch` does not see the places for now: %s", error)

    def close(self) -> None:
        """Removes it: from now on the journal has everything."""
        if self._thread:
            self._thread.join()
        with contextlib.suppress(StorageError):
            self._place.delete(NAME)
