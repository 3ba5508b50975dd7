"""Supervises a job's driver: restarts one that died, and the sweep continues from the journal.

A job forks after it has parsed its command line, before it connects to anything: the parent is the supervisor, the
child the driver. A driver that was ended by a signal (out of memory, a crash outside of Python) or that hangs is
replaced by a new child, which has all imports already. A driver that exited by itself is not replaced, whatever its
exit code, and neither is any after a request to stop the job. If the supervisor is gone, as when Ray kills a job, its
driver exits at its next step.
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

LIVES = 6  # drivers in a row without a trial that ends
LONGEST_WAIT_S = 30.0
BEAT_S = 1.0
LOOK_S = 1.0
HANG_S = 600.0  # without a step of a running sweep: the driver hangs
ABORT_S = 10.0  # for a hanging driver to print its traceback; a suspended one cannot

_BEAT, _REST, _DONE = b".", b"-", b"+"
_STOPS = (signal.SIGINT, signal.SIGTERM)


class Supervisor:
    """Runs a driver in a child process, and restarts it if it dies or hangs.

    Args:
        driver: called with whether this is a restart; returns an exit code.
    """

    def __init__(self, driver: Callable[[bool], int]) -> None:
        self._driver, self._lives, self._child, self._stopping = driver, 0, 0, False
        self._fruitless = 0  # lives since a trial last ended

    def run(self) -> int:
        """The driver's exit code; 1 after LIVES drivers without progress, 128 + signal if a request to stop killed it.

        In the child it does not return, but raises SystemExit.
        """
        retry = Retrying(
            retry=retry_if_result(lambda code: code < 0 and not self._stopping),
            stop=lambda _: self._fruitless >= LIVES,
            wait=lambda _: min(2.0 ** (self._fruitless - 1), LONGEST_WAIT_S),
            sleep=self._sleep,
            before_sleep=self._print_restart,
            retry_error_callback=lambda _: 1,
        )
        with self._forwarding_signals():
            code: int = retry(self._run_once)
        return code if code >= 0 else 128 - code

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (remaining := until - time.monotonic()) > 0:
            time.sleep(min(remaining, BEAT_S / 10))

    def _run_once(self) -> int:
        """Runs one driver; its exit code, or minus the signal that ended it."""
        beats, pulse = os.pipe()
        self._lives, self._fruitless = self._lives + 1, self._fruitless + 1
        sys.stdout.flush()
        sys.stderr.flush()
        # A request to stop comes either before the fork, which is then skipped, or after it, and reaches the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        if not self._stopping:
            with warnings.catch_warnings():
                # Python warns because of numpy's threads, which support a fork; there are no others yet.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._child = os.fork()
            if self._child == 0:
                os.close(beats)
                self._run_child(pulse)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        os.close(pulse)
        code = self._watch(self._child, beats) if self._child else -signal.SIGTERM
        self._child = 0
        os.close(beats)
        return code

    def _run_child(self, pulse: int) -> NoReturn:
        global _pulse
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        faulthandler.enable(sys.__stderr__ or 2)  # prints the traceback of a hang or a crash
        _pulse = Pulse(pulse)
        sys.exit(self._driver(self._lives > 1))

    @contextlib.contextmanager
    def _forwarding_signals(self) -> Iterator[None]:
        """Forwards SIGTERM and SIGINT to the driver, which saves its state and exits; it is not restarted.

        Ctrl-C and `ray job stop` signal parent and child, `kill` only the parent. The forwarded signal is always
        SIGTERM, which a driver that is exiting already ignores.
        """
        old_handlers = {number: signal.signal(number, self._forward) for number in _STOPS}
        try:
            yield
        finally:
            for number, handler in old_handlers.items():
                signal.signal(number, handler)

    def _forward(self, *_: Any) -> None:
        self._stopping = True
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)

    def _watch(self, child: int, beats: int) -> int:
        """Waits for the child's end; returns its exit code, or minus the signal. Kills it if its sweep hangs.

        The pipe is closed when the child ends, unless a process that it forked still has it open: so this also checks
        the child itself.
        """
        until = math.inf  # no limit before the sweep runs: loading data may take long
        kill_signals = iter((signal.SIGABRT, signal.SIGKILL))
        while True:
            ready, _, _ = select.select([beats], [], [], LOOK_S)
            signs = os.read(beats, 4096) if ready else _BEAT
            ended, status = os.waitpid(child, os.WNOHANG if signs else 0)
            if _DONE in signs:
                self._fruitless = 0
            if ended:
                return os.waitstatus_to_exitcode(status)
            if ready:
                until = math.inf if signs.endswith(_REST) else time.monotonic() + HANG_S
            elif time.monotonic() > until:
                until = _kill(child, next(kill_signals, None))

    def _print_restart(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        name = signal.Signals(-state.outcome.result()).name
        attempt = f"{self._fruitless} of {LIVES - 1}" if self._fruitless else "its sweep has made progress"
        wait = state.next_action.sleep
        click.echo(f"error: {name} ended the driver: it is restarted in {wait:g} s and continues ({attempt})", err=True)


def _kill(child: int, number: signal.Signals | None) -> float:
    """Sends a hanging driver this signal; returns when to try the next one."""
    if number is None:
        return math.inf
    click.echo(f"error: the driver has made no step for {HANG_S:g} s: it is ended by {number.name}", err=True)
    os.kill(child, number)
    return time.monotonic() + ABORT_S


class Pulse:
    """Tells the supervisor, through a pipe, that the driver makes progress."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._last = pipe, 0.0

    def beat(self) -> None:
        """The driver has made a step."""
        now = time.monotonic()
        if now - self._last >= BEAT_S:
            self._last = now
            self._write(_BEAT)

    def done(self) -> None:
        """A trial has ended."""
        self._write(_DONE)

    def rest(self) -> None:
        """No steps are expected for a while."""
        self._last = 0.0
        self._write(_REST)

    def _write(self, sign: bytes) -> None:
        try:
            os.write(self._pipe, sign)
        except BrokenPipeError:
            os._exit(1)  # without a supervisor no one sees the result, and another driver may take the sweep over


_pulse: Pulse | None = None


class Heart(Observer):
    """Reports each turn of the main loop to the supervisor, if there is one."""

    def turn(self) -> None:
        """Reports a step."""
        if _pulse:
            _pulse.beat()

    def ended(self, trial: TrialRecord) -> None:
        """Reports the end of a trial."""
        if _pulse:
            _pulse.done()

    def close(self) -> None:
        """Reports that no more steps will come."""
        if _pulse:
            _pulse.rest()
