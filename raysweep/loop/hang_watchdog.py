"""Finds trials that hang: such a one is ended, and starts again from its last checkpoint."""

from __future__ import annotations

SILENCE_S = 900.0  # longer than a store's outage is waited out, in which trials are silent
SILENT_ITERATIONS = 20  # of the slowest iteration so far


class HangWatchdog:
    """Tells which trials have been silent for too long.

    Args:
        limit: seconds without a report; if not given, SILENT_ITERATIONS of the slowest iteration, and SILENCE_S at
            least.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit, self._slowest = limit, 0.0
        self._heard: dict[str, float] = {}

    def started(self, trial: str, now: float) -> None:
        """A trial begins to run, or goes on; its times are seconds, from any beginning."""
        self._heard[trial] = now

    def reported(self, trial: str, now: float) -> None:
        """A trial has reported."""
        self._slowest = max(self._slowest, now - self._heard.get(trial, now))
        self._heard[trial] = now

    def ended(self, trial: str) -> None:
        """A trial runs no more."""
        self._heard.pop(trial, None)

    def silent(self, now: float) -> list[tuple[str, float]]:
        """The trials to be ended, and for how many seconds each has been silent; each is told once."""
        limit = self._limit or max(SILENCE_S, SILENT_ITERATIONS * self._slowest)
        found = [(trial, now - heard) for trial, heard in self._heard.items() if now - heard >= limit]
        for trial, _ in found:
            del self._heard[trial]
        return found
