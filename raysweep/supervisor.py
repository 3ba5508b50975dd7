"""A job's driver under supervision: one that dies is started again, and its sweep goes on from the journal.

A job forks when its command line has been read and nothing is connected yet: the parent is the supervisor, the child
the driver. A driver that a signal has ended (for its memory, by a crash outside of Python) or that hangs is replaced by
a new child, which has everything imported already. One that ended by itself is not, whatever its exit code. When the
supervisor is gone, as when Ray ends a job by force, its driver follows with its next step.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click
from ray import tune
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_exponential

from raysweep.record import NotSaved

LIVES = 6
LONGEST_WAIT_S = 30.0
BEAT_S = 1.0
HANG_S = 600.0  # since the last step of a sweep that runs

_BEAT, _REST = b".", b"-"


class Supervisor:
    """Runs a driver in a child of this process, and again if it dies or hangs.

    Args:
        driver: gets whether this is another life of it, and returns an exit code.
    """

    def __init__(self, driver: Callable[[bool], int]) -> None:
        self._driver, self._lives, self._child = driver, 0, 0

    def run(self) -> int:
        """The driver's exit code; 1 when it has used up its LIVES. A child ends in here, by SystemExit."""
        again = Retrying(
            retry=retry_if_result(lambda code: code < 0),
            stop=stop_after_attempt(LIVES),
            wait=wait_exponential(max=LONGEST_WAIT_S),
            before_sleep=_tell,
            retry_error_callback=lambda _: 1,
        )
        with self._passing_on():
            return again(self._live)

    def _live(self) -> int:
        """One life of the driver: its exit code, or minus the signal that ended it."""
        beats, pulse = os.pipe()
        self._lives += 1
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # numpy's threads are the ones that Python warns of; they are made for it, and nothing else runs yet.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._child = os.fork()
        if self._child == 0:
            os.close(beats)
            self._drive(pulse)
        os.close(pulse)
        _watch(self._child, beats)
        os.close(beats)
        return os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])

    def _drive(self, pulse: int) -> NoReturn:
        global _pulse
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        faulthandler.enable(sys.__stderr__ or 2)  # where it hung, or crashed
        _pulse = Pulse(pulse)
        sys.exit(self._driver(self._lives > 1))

    @contextlib.contextmanager
    def _passing_on(self) -> Iterator[None]:
        """SIGTERM and SIGINT are for the driver, which saves itself and ends.

        Ctrl-C and `ray job stop` reach parent and child, `kill` the parent alone: what is passed on is always SIGTERM,
        which a driver that is ending already takes no notice of.
        """
        before = {sent: signal.signal(sent, self._pass_on) for sent in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sent, handler in before.items():
                signal.signal(sent, handler)

    def _pass_on(self, *_: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGTERM)


def _watch(child: int, beats: int) -> None:
    """Returns when the child has closed its end; ends it if its sweep makes no step for HANG_S."""
    patience: float | None = None  # before the sweep runs, data may load for as long as it takes
    while True:
        ready, _, _ = select.select([beats], [], [], patience)
        if not ready:
            click.echo(f"error: the driver has made no step for {HANG_S:g} s: it is ended", err=True)
            os.kill(child, signal.SIGABRT)
            patience = None
            continue
        heard = os.read(beats, 4096)
        if not heard:
            return
        patience = HANG_S if heard.endswith(_BEAT) else None


def _tell(state: RetryCallState) -> None:
    assert state.outcome is not None
    assert state.next_action is not None
    name = signal.Signals(-state.outcome.result()).name
    life = f"{state.attempt_number} of {LIVES - 1}"
    wait = state.next_action.sleep
    click.echo(f"error: {name} ended the driver: it starts again in {wait:g} s and goes on ({life})", err=True)


class Pulse:
    """How a driver shows its supervisor that it steps."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._last = pipe, 0.0

    def beat(self) -> None:
        """A step was made."""
        now = time.monotonic()
        if now - self._last >= BEAT_S:
            self._last = now
            self._write(_BEAT)

    def rest(self) -> None:
        """No steps will come for a while."""
        self._last = 0.0
        self._write(_REST)

    def _write(self, sign: bytes) -> None:
        try:
            os.write(self._pipe, sign)
        except BrokenPipeError:
            os._exit(1)  # nobody would hear how the sweep ends, and another driver may take it over


_pulse: Pulse | None = None


class Heart(NotSaved, tune.Callback):
    """Beats with each step of Tune's loop, if there is a supervisor."""

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Called by Tune."""
        if _pulse:
            _pulse.beat()

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        """Called by Tune."""
        if _pulse:
            _pulse.rest()
