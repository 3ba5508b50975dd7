"""A job's driver under supervision: one that dies is started again, and its sweep goes on from the journal.

A job forks when its command line has been read and nothing is connected yet: the parent is the supervisor, the child
the driver. A driver that a signal has ended (for its memory, by a crash outside of Python) or that hangs is replaced by
a new child, which has everything imported already. One that ended by itself is not, whatever its exit code, and none
once the job has been asked to stop. When the supervisor is gone, as when Ray ends a job by force, its driver follows
with its next step.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click
from tenacity import RetryCallState, Retrying, retry_if_result

from raysweep.history.sweep_state import TrialRecord
from raysweep.loop.observers import Observer

LIVES = 6  # in a row, in which no trial comes to its end
LONGEST_WAIT_S = 30.0
BEAT_S = 1.0
LOOK_S = 1.0
HANG_S = 600.0  # since the last step of a sweep that runs
ABORT_S = 10.0  # in which a driver that hangs may say where; a suspended one cannot

_BEAT, _REST, _DONE = b".", b"-", b"+"
_STOPS = (signal.SIGINT, signal.SIGTERM)


class Supervisor:
    """Runs a driver in a child of this process, and again if it dies or hangs.

    Args:
        driver: gets whether this is another life of it, and returns an exit code.
    """

    def __init__(self, driver: Callable[[bool], int]) -> None:
        self._driver, self._lives, self._child, self._stopping = driver, 0, 0, False
        self._fruitless = 0  # lives since a trial came to its end

    def run(self) -> int:
        """The driver's exit code; 1 when it has used up its LIVES, 128 and the signal when it died of being stopped.

        A child ends in here, by SystemExit.
        """
        again = Retrying(
            retry=retry_if_result(lambda code: code < 0 and not self._stopping),
            stop=lambda _: self._fruitless >= LIVES,
            wait=lambda _: min(2.0 ** (self._fruitless - 1), LONGEST_WAIT_S),
            sleep=self._sleep,
            before_sleep=self._tell,
            retry_error_callback=lambda _: 1,
        )
        with self._passing_on():
            code: int = again(self._live)
        return code if code >= 0 else 128 - code

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, BEAT_S / 10))

    def _live(self) -> int:
        """One life of the driver: its exit code, or minus the signal that ended it."""
        beats, pulse = os.pipe()
        self._lives, self._fruitless = self._lives + 1, self._fruitless + 1
        sys.stdout.flush()
        sys.stderr.flush()
        # A request to stop comes before the fork, and there is none, or meets the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        if not self._stopping:
            with warnings.catch_warnings():
                # numpy's threads are the ones that Python warns of; they are made for it, and nothing else runs yet.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._child = os.fork()
            if self._child == 0:
                os.close(beats)
                self._drive(pulse)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        os.close(pulse)
        code = self._watch(self._child, beats) if self._child else -signal.SIGTERM
        self._child = 0
        os.close(beats)
        return code

    def _drive(self, pulse: int) -> NoReturn:
        global _pulse
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        faulthandler.enable(sys.__stderr__ or 2)  # where it hung, or crashed
        _pulse = Pulse(pulse)
        sys.exit(self._driver(self._lives > 1))

    @contextlib.contextmanager
    def _passing_on(self) -> Iterator[None]:
        """SIGTERM and SIGINT are for the driver, which saves itself and ends; another is not started.

        Ctrl-C and `ray job stop` reach parent and child, `kill` the parent alone: what is passed on is always SIGTERM,
        which a driver that is ending already takes no notice of.
        """
        before = {sent: signal.signal(sent, self._pass_on) for sent in _STOPS}
        try:
            yield
        finally:
            for sent, handler in before.items():
                signal.signal(sent, handler)

    def _pass_on(self, *_: Any) -> None:
        self._stopping = True
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)

    def _watch(self, child: int, beats: int) -> int:
        """Returns the child's exit code, or minus the signal, when it has ended; ends it if its sweep stands still.

        Its end of the pipe is closed then, unless a process that it forked still has it: so the child itself is looked
        at, too.
        """
        until = math.inf  # before the sweep runs, data may load for as long as it takes
        means = iter((signal.SIGABRT, signal.SIGKILL))
        while True:
            ready, _, _ = select.select([beats], [], [], LOOK_S)
            heard = os.read(beats, 4096) if ready else _BEAT
            ended, status = os.waitpid(child, os.WNOHANG if heard else 0)
            if _DONE in heard:
                self._fruitless = 0
            if ended:
                return os.waitstatus_to_exitcode(status)
            if ready:
                until = math.inf if heard.endswith(_REST) else time.monotonic() + HANG_S
            elif time.monotonic() > until:
                until = _end(child, next(means, None))

    def _tell(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        name = signal.Signals(-state.outcome.result()).name
        life = f"{self._fruitless} of {LIVES - 1}" if self._fruitless else "its sweep has come on"
        wait = state.next_action.sleep
        click.echo(f"error: {name} ended the driver: it starts again in {wait:g} s and goes on ({life})", err=True)


def _end(child: int, means: signal.Signals | None) -> float:
    """Ends a driver that hangs; when to look again whether that has worked."""
    if means is None:
        return math.inf
    click.echo(f"error: the driver has made no step for {HANG_S:g} s: it is ended by {means.name}", err=True)
    os.kill(child, means)
    return time.monotonic() + ABORT_S


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

    def done(self) -> None:
        """A trial came to its end."""
        self._write(_DONE)

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


class Heart(Observer):
    """Beats with each turn of the main loop, if there is a supervisor."""

    def turn(self) -> None:
        """The sweep lives."""
        if _pulse:
            _pulse.beat()

    def ended(self, trial: TrialRecord) -> None:
        """The sweep comes on."""
        if _pulse:
            _pulse.done()

    def close(self) -> None:
        """No turns will come."""
        if _pulse:
            _pulse.rest()
