"""A training function that ends its own process on purpose: that is an exception of it, and not the loss of a process.

`sys.exit` raises in the thread of the function anyhow. `os._exit` and `os.abort` would end the process without a word:
while the function runs, they raise in its thread, too. Elsewhere they do what they always do: in other threads, but it
is noted where, and in a fork, as a worker of a data loader is one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from raysweep import user_code

DEADLY = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM}
NO_SIGNALS = "main thread of the main interpreter"  # in Python's own words
NO_HANDLERS = (
    "a training function runs in a thread of its process, where Python allows none: leave it out, or set it in a"
    " process that the function starts"
)


class Exited(RuntimeError):
    """The training function called `sys.exit`, `os._exit` or the like, or was interrupted."""


class _Exit(SystemExit):
    """Raised by a call that would have ended the process."""


@contextlib.contextmanager
def refused(note: Callable[[str], None]) -> Iterator[None]:
    """Until the context ends, this thread does not end its process by itself.

    Args:
        note: takes down the call, or the signal, by which another thread is about to end the process, or this one with
            a signal that it sends to itself.
    """
    own, thread = os.getpid(), threading.current_thread()
    real_exit, real_abort, real_kill = os._exit, os.abort, os.kill

    def about_to(call: str) -> None:
        if os.getpid() == own and threading.current_thread() is thread:
            raise _Exit(call)
        if os.getpid() == own:
            note(call)

    def _exit(status: int) -> NoReturn:
        about_to(f"os._exit({status})")
        real_exit(status)

    def abort() -> NoReturn:
        about_to("os.abort()")
        real_abort()

    def kill(pid: int, number: int) -> None:
        if pid == own == os.getpid() and number in DEADLY:
            note(signal.Signals(number).name)
        real_kill(pid, number)

    os._exit, os.abort, os.kill = _exit, abort, kill
    try:
        yield
    finally:
        os._exit, os.abort, os.kill = real_exit, real_abort, real_kill


def as_exception(outcome: BaseException) -> Exception:
    """What a training function raised, as an exception that ends its trial and not its process."""
    place = user_code.place_in(outcome.__traceback__)
    where = f" at {place}" if place else ""
    if isinstance(outcome, Exception):
        if NO_SIGNALS in str(outcome):
            outcome.add_note(f"no signal handler{where}: {NO_HANDLERS}")
        return outcome
    error = Exited(f"the training function {_deed(outcome, where)}")
    error.__cause__ = outcome
    return error


def _deed(outcome: BaseException, where: str) -> str:
    if isinstance(outcome, SystemExit):
        call = "sys.exit()" if outcome.code is None else f"sys.exit({outcome.code!r})"
        call = str(outcome) if isinstance(outcome, _Exit) else call
        return f"called {call}{where}: return from it instead, or raise an exception"
    return f"raised {type(outcome).__name__}{where}{': ' if str(outcome) else ''}{outcome}"
