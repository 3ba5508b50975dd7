"""What a trial's process leaves behind when it is ended: by which signal, and where in the user's code.

Python's faulthandler writes the stacks of all threads into a file beside Ray's log of the process, from within the
signal: so they are there even after a crash in C. They lie on the node of the process, where a small task reads them
for the driver. Of a SIGKILL from outside, as when memory runs out, no process can write anything.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import ray

from raysweep import ray_private, user_code

# faulthandler's words for signals.
SIGNALS = {
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating point exception": "SIGFPE",
    "Floating-point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
    "Segmentation fault": "SIGSEGV",
}
TIME_UP = "when its time was up"
BY_ITSELF = "by itself, with "
_ITSELF, _TIMEOUT = "itself: ", "Timeout ("
_FATAL = re.compile(r"^Fatal Python error: (.*)", re.MULTILINE)
_FRAME = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)')


@dataclass(frozen=True)
class Traces:
    """Where to look for what became of a process.

    Attributes:
        node: Ray's id of its node.
        host: the address of that node.
        log: Ray's log of it, a file of that node.
    """

    node: str
    host: str
    log: str

    @property
    def words(self) -> str:
        """The file with its last words, on its node."""
        return str(Path(self.log).with_suffix(".end"))

    @property
    def printed(self) -> str:
        """The file that takes what it prints, see `output`. Ray shows files that end as its own do: `out`, `err`."""
        return str(Path(self.log).with_suffix(".printed"))

    @property
    def runs(self) -> str:
        """The file that notes which run printed what of it."""
        return str(Path(self.log).with_suffix(".runs"))


class LastWords:
    """Takes down how this process ends, if it is one of Ray's.

    Attributes:
        traces: where it can be read afterwards; None if this process has no log of Ray's, and nothing is written.
    """

    def __init__(self) -> None:
        self.traces = _traces()
        self._file: IO[str] | None = Path(self.traces.words).open("a") if self.traces else None  # noqa: SIM115
        if self._file:
            faulthandler.enable(self._file, all_threads=True)
            os.register_at_fork(after_in_child=_another_process)
            # Not by `faulthandler.register`: it restarts the call that the signal interrupts, so that Ray's own handler
            # would only come when that call ends.
            self._own, self._before = os.getpid(), signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        if self._file and os.getpid() == self._own:
            faulthandler.dump_traceback(self._file, all_threads=True)
        if callable(self._before):
            self._before(number, frame)

    @property
    def file(self) -> IO[str] | int:
        """Where a fault handler may write."""
        return self._file or sys.__stderr__ or 2

    def forget(self) -> None:
        """Another run begins: what was written during the one before does not count."""
        if self._file:
            self._file.truncate(0)

    def note(self, call: str) -> None:
        """Takes down a call, or a signal, with which this process is about to end itself, and where it does so."""
        if self._file:
            stack = reversed(traceback.extract_stack())
            place = user_code.place_of((each.filename, each.lineno, each.name) for each in stack)
            print(f"{_ITSELF}{call}{_at(place)}", file=self._file, flush=True)


def _traces() -> Traces | None:
    with contextlib.suppress(OSError):
        log = str(Path("/proc/self/fd/2").readlink())
        if log.startswith("pipe:") and ray.is_initialized():  # between a process and a log that Ray rotates
            log = ray_private.worker_log()
        if log.endswith(".err") and ray.is_initialized():
            return Traces(ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address(), log)
    return None


def _another_process() -> None:
    """A fork, as a worker of a data loader is one, does not write into the file of the process that it came from."""
    faulthandler.enable(sys.__stderr__ or 2)


def read(path: str) -> str:
    """How a process of this node ended, such as `by SIGSEGV at train.py, line 3, in train`; empty if not known."""
    try:
        words = Path(path).read_text(errors="replace")
    except OSError:
        return ""
    if words.startswith(_ITSELF):
        return f"{BY_ITSELF}{words.splitlines()[0].removeprefix(_ITSELF)}"
    if not (stacks := _stacks(words)):
        return ""
    place = next(filter(None, map(user_code.place_of, stacks)), "")
    return f"{_cause(words)}{_at(place)}"


def _cause(words: str) -> str:
    if words.startswith(_TIMEOUT):
        return TIME_UP
    fatal = _FATAL.search(words)
    return f"by {SIGNALS.get(fatal[1], fatal[1]) if fatal else signal.SIGTERM.name}"


def _at(place: str) -> str:
    return f" at {place}" if place else ""


def _stacks(words: str) -> list[list[user_code.Frame]]:
    """The stacks of the threads: first the one in which it happened, which may not be the trial's."""
    stacks: list[tuple[bool, list[user_code.Frame]]] = []
    for line in words.splitlines():
        if line.endswith("(most recent call first):"):
            stacks.append((line.startswith("Current thread"), []))
        elif stacks and (frame := _FRAME.fullmatch(line)):
            stacks[-1][1].append((frame[1], int(frame[2]) if frame[2].isdigit() else None, frame[3]))
    return [frames for _, frames in sorted(stacks, key=lambda stack: not stack[0])]
