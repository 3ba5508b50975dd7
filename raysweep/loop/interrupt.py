"""SIGINT and SIGTERM, which Ctrl-C and `ray job stop` send: they end a sweep, but let running trials report first."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

import click

GRACE_S = 30.0  # in which running trials may still report when a sweep is asked to end
AGAIN_S = 1.0  # after which a second SIGINT is another Ctrl-C, not the same one on another way


class Interruption:
    """Whether the sweep has been asked to end.

    What running trials report in the meantime is a checkpoint: a sweep that is asked to end loses no iteration that is
    done within GRACE_S. A second SIGTERM, such as a supervisor passes on, changes nothing; a second Ctrl-C ends the
    sweep at once. Signals reach the main thread only: a sweep that runs in another one is ended by its process.
    """

    def __init__(self) -> None:
        self._asked = math.inf
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
    def asked(self) -> bool:
        """Whether nothing new shall begin."""
        return self._asked < math.inf

    @property
    def over(self) -> bool:
        """Whether running trials are waited for no longer."""
        return self._at_once or time.monotonic() >= self._asked + GRACE_S

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.asked:
            self._asked = now
            with contextlib.suppress(RuntimeError, OSError):  # the signal came while something was being written
                click.echo("the sweep is asked to end: running trials may finish their iteration first")
        elif number == signal.SIGINT and now - self._asked > AGAIN_S:
            self._at_once = True
