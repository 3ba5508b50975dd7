"""What a trial prints, on its way into the sweep's storage.

Everything that is written to the descriptors 1 and 2 of its process, by Python, by a library in C or by a program that
it starts, goes to a file (see `spool`). A thread reads that file and keeps a bounded text of it; another one stores the
text now and then. Neither makes the training function wait, and a trial that prints nothing costs no request.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from raysweep.errors import StorageError
from raysweep.history import trial_log
from raysweep.history.trial_log import Text
from raysweep.storage import Storage
from raysweep.trial import spool
from raysweep.trial.last_words import Traces
from raysweep.trial.run import Run
from raysweep.trial.spool import Part

log = logging.getLogger(__name__)

READ_S = 0.25  # between two looks into the file
SPOOL_BYTES = 16 * 2**20  # of the file, at most so much of what is read waits for the storage
WAITING_BYTES = 64 * 2**20  # of memory, for the texts of earlier runs that wait for it
_IOLBF = 1  # of C: a stream that is written line by line


class Output:
    """Takes all that this process prints, if it is one of Ray's, and stores it run by run.

    Args:
        traces: where the files of the process lie; None if it is not Ray's, and its output stays where it is.
    """

    def __init__(self, traces: Traces | None) -> None:
        self._traces, self._file = traces, -1
        self._storage: Storage
        self._show: Any = None
        self._parts: list[Part] = []
        self._lock, self._wake, self._done = threading.Lock(), threading.Event(), threading.Event()
        self._next = self._stored_at = 0.0  # when the newest part is stored again, and when anything was
        self._refused_until, self._punched = 0.0, 0
        self._storing: Future[None] | None = None
        if traces is not None:
            self._redirect(traces)

    def _redirect(self, traces: Traces) -> None:
        flush()
        self._file = os.open(traces.printed, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._notes = os.open(traces.runs, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        spool.lock(self._notes)
        for descriptor in (1, 2):
            os.dup2(self._file, descriptor)
        # Else a library in C keeps what it prints until its buffer is full, and a killed process loses it.
        with contextlib.suppress(AttributeError, ValueError):
            libc = ctypes.CDLL(None)
            libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, ctypes.c_size_t(0))

    def open(self, storage: Storage, show: Any = None) -> None:
        """From now on, what is printed is stored.

        Args:
            storage: the sweep's own folder or prefix.
            show: a queue of Ray's that takes all lines, too, for a driver that shows them.
        """
        self._storage, self._show = storage, show
        if self._traces is not None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="store-output")
            self._pool.submit(self._rescue_others, self._traces)
            threading.Thread(target=self._loop, name="output", daemon=True).start()

    def _rescue_others(self, traces: Traces) -> None:
        """Stores what processes of this sweep have left on this node whose driver, too, was killed."""
        for notes in Path(traces.runs).parent.glob(f"*{Path(traces.runs).suffix}"):
            if str(notes) != traces.runs:
                with contextlib.suppress(StorageError, OSError, ValueError):
                    printed = notes.with_suffix(Path(traces.printed).suffix)
                    spool.rescue(str(printed), str(notes), self._storage, self._show, patience=0.0)

    # The actor's calls.

    def begin(self, run: Run, label: str = "") -> None:
        """A run begins: it gets all that is printed until the next one does, also by what an earlier one left running.

        Args:
            run: the run.
            label: what each line begins with, where several processes serve one trial; each has objects of its own.
        """
        if self._traces is None:
            return
        flush()
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        first = run.first and not label
        name = "" if first else f"{time.time_ns() // 10**6}-{platform.node()}-{os.getpid()}"
        iteration = run.start.iteration + 1 if run.start else 1
        header = f"{now} UTC: from iteration {iteration} on node {platform.node()} ({self._traces.host})"
        header = f"[raysweep: trial {run.trial}, {header}{f', {label}' if label else ''}]\n"
        with self._lock:
            # What was printed while the process started is the first run's.
            at = self._end_newest() if self._parts else 0
            prefix = f"({label}) " if label else ""
            part = Part(run.trial, trial_log.key(run.trial, name), header, prefix, began=at)
            part.read = part.seen = part.shown = part.stored = part.kept = at
            self._parts.append(part)
            self._next = time.monotonic() + trial_log.AGAIN_S
            self._note()

    def pause(self) -> None:
        """A run has come to its end: what it printed is stored soon."""
        if self._traces is not None and self._parts:
            flush()
            if self._size() > self._parts[-1].kept:
                self._next = 0.0
                self._wake.set()

    def finish(self, seconds: float) -> tuple[str, ...]:
        """Stores what is not stored yet, since this process will be ended; gives up if that has made no progress for so
        many seconds.

        Returns:
            The last lines of the newest run.
        """
        if self._traces is None:
            return ()
        flush()
        # From the open file: a process that closes its notes loses the lock on them.
        last = spool.last_lines_of(self._file, self._parts[-1].began) if self._parts else ()
        with self._lock:
            if self._parts:
                self._end_newest()
            if not self._parts:
                self._done.set()
        self._stored_at = time.monotonic()
        self._wake.set()
        while not self._done.wait(0.01) and time.monotonic() < self._stored_at + seconds:
            pass
        if self._done.is_set():
            for path in (self._traces.printed, self._traces.runs):
                Path(path).unlink(missing_ok=True)
        return last

    def _end_newest(self) -> int:
        part, size = self._parts[-1], self._size()
        part.end = size
        if part.kept == size:
            self._parts.pop()  # it printed nothing more
        while sum(each.text.size for each in self._parts) > WAITING_BYTES:
            self._give_up(self._parts[0])
        return size

    def _give_up(self, part: Part) -> None:
        """Of a text that has waited too long for the storage, only its size is kept."""
        size, part.text = part.text.grown, Text()
        part.add(b"")
        part.text.leave_out(size)

    # The thread that reads.

    def _loop(self) -> None:
        while True:
            self._wake.wait(READ_S)
            self._wake.clear()
            for part in list(self._parts):
                self._read(part)
            self._store()
            self._punch()

    def _size(self) -> int:
        return os.fstat(self._file).st_size

    def _read(self, part: Part) -> None:
        end = self._size() if part.end is None else part.end
        while part.read < end:
            lines, at = spool.next_lines(self._file, part.read, end, part.end == end, part.label)
            if at == part.read:
                break
            part.add(lines)
            part.read = at
            self._show_lines(part, lines)
            self._punch()  # not only when all is read: a flood may be larger than the disk
        part.seen = end

    def _show_lines(self, part: Part, lines: bytes) -> None:
        if self._show is None or not lines:
            return
        try:
            self._show.put((part.trial, lines))
            part.shown = part.read
            with self._lock:
                self._note()
        except Exception as error:  # the queue is gone
            self._show = None
            log.warning("the driver no longer shows what trials print: %s", error)

    def _store(self) -> None:
        """Has one text stored, unless another one is being stored: first those of runs that have ended."""
        now = time.monotonic()
        if (self._storing is not None and not self._storing.done()) or now < self._refused_until or not self._parts:
            return
        part = self._parts[0]
        if part.seen == part.kept or (part.end is None and now < self._next) or part.end not in (None, part.seen):
            return
        unfinished = os.pread(self._file, part.seen - part.read, part.read)
        part.text.rest = part.label.encode() + spool.collapsed(unfinished) if unfinished else b""
        if unfinished:
            part.add(b"")  # the header, at least
        self._storing = self._pool.submit(self._put, part, bytes(part.text), part.read, part.seen)
        self._storing.add_done_callback(lambda _: self._wake.set())

    def _put(self, part: Part, text: bytes, read: int, end: int) -> None:
        try:
            self._storage.put(part.key, text)
        except StorageError:
            self._refused_until = time.monotonic() + trial_log.AGAIN_S
            return
        with self._lock:
            part.stored, part.kept = read, end
            if part.end == end:
                self._parts.remove(part)
            self._stored_at = time.monotonic()
            self._next = self._stored_at + trial_log.pause(len(text))
            if self._parts:
                self._note()
            else:
                self._done.set()

    def _punch(self) -> None:
        """Lets the file lose what is stored, and what need not be: of a flood, only the end is kept anyway."""
        parts = list(self._parts)
        if not parts:
            return
        keep = max(parts[0].stored, parts[-1].read - SPOOL_BYTES) - spool.LAST_BYTES
        if keep - self._punched >= spool.CHUNK:
            with self._lock:
                before, self._punched = self._punched, keep
                self._note()
            spool.punch(self._file, before, keep)

    def _note(self) -> None:
        runs = [part.note() for part in self._parts]
        spool.write_note(self._notes, {"url": self._storage.url, "punched": self._punched, "runs": runs})


def flush() -> None:
    """Writes what Python still holds back of what was printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the user's own stream, or one that is closed
            stream.flush()
