"""SIGINT and SIGTERM, sent by Ctrl-C and `ray job stop`: they end a sweep, but let running trials report first."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

import click

GRACE_S = 30.0  # for running trials to report, after the end of the sweep was requested
AGAIN_S = 1.0  # a SIGINT after this time is another Ctrl-C; an earlier one is the same, received twice


class Interruption:
    """Whether the end of the sweep has been requested.

    Running trials may still report and save, so no iteration is lost that is done within GRACE_S. A second SIGTERM,
    such as the one that a supervisor forwards, changes nothing; a second Ctrl-C ends the sweep at once. Only the main
    thread receives signals: a sweep in another thread ends with its process.
    """

    def __init__(self) -> None:
        self._requested_at = math.inf
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {sent: signal.signal(sent, self._on_signal) for sent in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for sent, handler in self._before.items():
            signal.signal(sent, handler)

    @property
    def requested(self) -> bool:
        """Whether no further trial should start."""
        return self._requested_at < math.inf

    @property
    def over(self) -> bool:
        """Whether to wait no longer for running trials."""
        return self._at_once or time.monotonic() >= self._requested_at + GRACE_S

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.requested:
            self._requested_at = now
            with contextlib.suppress(RuntimeError, OSError):  # the signal came while something was being written
                click.echo("the sweep is asked to end: running trials may finish their iteration first")
        elif number == signal.SIGINT and now - self._requested_at > AGAIN_S:
            self._at_once = True
