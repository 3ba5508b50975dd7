"""Detects trials that hang: they are killed, and start again from their last checkpoint."""

from __future__ import annotations

SILENCE_S = 900.0  # longer than trials wait, without reporting, for a store that is down
SILENT_ITERATIONS = 20  # of the slowest iteration so far


class HangWatchdog:
    """Detects trials that have not reported for too long.

    Args:
        limit: seconds without a report; if not given, SILENT_ITERATIONS times the slowest iteration, and at least
            SILENCE_S.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit, self._slowest = limit, 0.0
        self._last_report: dict[str, float] = {}

    def started(self, trial: str, now: float) -> None:
        """A trial has started or continued; times are seconds, from an arbitrary start."""
        self._last_report[trial] = now

    def reported(self, trial: str, now: float) -> None:
        """A trial has reported."""
        self._slowest = max(self._slowest, now - self._last_report.get(trial, now))
        self._last_report[trial] = now

    def ended(self, trial: str) -> None:
        """A trial has stopped running."""
        self._last_report.pop(trial, None)

    def silent(self, now: float) -> list[tuple[str, float]]:
        """The trials to be killed, and the seconds since the last report of each; each trial is returned only once."""
        limit = self._limit or max(SILENCE_S, SILENT_ITERATIONS * self._slowest)
        hung = [(trial, now - last) for trial, last in self._last_report.items() if now - last >= limit]
        for trial, _ in hung:
            del self._last_report[trial]
        return hung
