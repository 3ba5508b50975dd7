"""The journal of a sweep: an append-only list of events, and the only record that a sweep is resumed from.

Ray's own experiment state is a cache that may be ten seconds old, so nothing is resumed from it. An event is one line
of JSON with a sequence number. Lines are stored in segments (see `segments`): in a folder, one file per driver, written
line by line; in an object store, which cannot append, objects that are rewritten every second while they are small.
The term is that of the driver's lease (see `lease`): where a later term begins, an earlier one ends; whatever a driver
writes after it has lost its lease is ignored.

Events, by `type`:
    start     a driver started or resumed the sweep                    term, resumed
              (and its settings: share, the CPUs, GPUs and workers of a trial; together, if the strategy compares all
              trials with each other; code, versions, python, as in sweep.json; warm_start, the trials of earlier sweeps
              that came in, if there are any: see spec.observations)
    suggest   the search proposed a configuration                      trial, config, memory
    result    a trial reported one iteration                           trial, iteration, metrics, checkpoint, node
              (and config, if it differs from the last one; stop, if it ended the trial, with what decided so: see
              sweep_state.BY_LIMIT; adopted, if a resumed sweep recovered the result from a checkpoint: see
              loop.adopt_results; stalled, the seconds for which it waited for its checkpoint)
    exploit   a trial continues from another trial's checkpoint        trial, donor, checkpoint, before, after
    damaged   one of a trial's own checkpoints is not intact           trial, checkpoint (its key)
    failure   a trial failed; it may be restarted                      trial, error, kind: see loop.failures
              (and printed, its last lines, if it printed anything)
    retry     a resume tries a failed trial again                      trial
    complete  a trial ended                                            trial, status: see sweep_state.ENDED
    end       the driver left the sweep                                status
              (and out_of_budget, if that is since a budget of time or money is used up)
    pruned    checkpoints were removed on purpose, see `removal`         kept (the trials that have theirs), at
              (`time` is that of the event before: the clock of a journal stands still while no driver runs)
    repaired  a damaged journal was written anew: see `repair`         damage
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from raysweep.errors import StorageError
from raysweep.history import segments
from raysweep.history.segments import Event as Event
from raysweep.storage import Storage
from raysweep.storage.append_log import AppendLog
from raysweep.values import to_json

log = logging.getLogger(__name__)

# A trial continues when the driver has its result. In an object store, a crash may lose results of the last second
# that have no checkpoint.
FLUSH_SECONDS = 1.0
IMMEDIATE = ("suggest",)  # stored at once, so that the checkpoints of a trial can always be found by its id
DURABLE_SECONDS = 60.0  # longest wait until an event is stored


def read(storage: Storage) -> list[Event]:
    """All events that can be read, in order; `segments.read` also says what is damaged.

    Leaves out the incomplete last line of a killed driver, and what a driver wrote after the next one had started.
    """
    return segments.read(storage).events


class Journal:
    """Appends events to a sweep's journal.

    Args:
        storage: the sweep's own folder or prefix.
        term: of the driver's lease; unique to this driver.
        after: the last sequence number already in the journal.
    """

    def __init__(self, storage: Storage, term: int, after: int = 0) -> None:
        self.term, self.seq = term, after
        self._sink = _FileSink(storage) if storage.local_path("") else _ObjectSink(storage, term)
        self._sink.open(segments.key_of(term, after + 1))

    def append(self, type: str, **fields: Any) -> Event:
        """Writes one event and returns it.

        Raises:
            StorageError: the folder refused the line (disk full, permission).
        """
        event = {"seq": self.seq + 1, "type": type, "time": round(time.time(), 3), **fields}
        self._sink.write(self.seq + 1, segments.seal(to_json(event)), type in IMMEDIATE)
        self.seq += 1  # a line that was refused has not used up its number
        return event

    def stored(self, seq: int) -> bool:
        """Waits until the event with this number is in the storage; False if that takes too long.

        Delete what an event makes obsolete only after that: a crash may lose events that are not stored yet.
        """
        return self._sink.stored(seq)

    def close(self) -> None:
        """Writes the events that are still in memory.

        Raises:
            StorageError: the storage refused; the events that are not stored yet are lost.
        """
        self._sink.close()


class _FileSink:
    """One file, appended to line by line: a killed process loses no event.

    Not buffered: a buffer would write the rest of a refused line when there is space again.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._file: FileIO
        self._end, self._torn = 0, False  # of the last whole line; whether a part of another one follows it
        self._written = self._synced = 0

    def open(self, key: str) -> None:
        path = self._storage.local_path(key)
        assert path is not None
        with self._refusals():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            self._end = self._file.tell()
            _sync_folder(path.parent)

    def write(self, seq: int, line: str, immediate: bool) -> None:
        with self._refusals():
            self._remove_torn()
            self._torn, data = True, line.encode()
            left = data
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError:
                with contextlib.suppress(OSError):  # else before the next line
                    self._remove_torn()
                raise
            self._torn, self._end, self._written = False, self._end + len(data), seq

    def _remove_torn(self) -> None:
        """Removes the beginning of a line that was refused (disk full), before another line follows it."""
        if self._torn:
            self._file.truncate(self._end)
            self._torn = False

    def stored(self, seq: int) -> bool:
        if self._synced < seq:  # a killed process loses nothing, but a power failure what is not synced
            written = self._written
            with self._refusals():
                os.fsync(self._file.fileno())
            self._synced = written
        return True

    def close(self) -> None:
        with self._refusals(), self._file:
            os.fsync(self._file.fileno())

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self._storage.url}: the journal cannot be written: {error.strerror}: all earlier events are safe:"
                " solve this problem, then continue with --resume auto"
            ) from error


def _sync_folder(path: Path) -> None:
    """Makes the folder's list of files durable, too."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _ObjectSink:
    """Collects lines, and stores them from its own thread: every FLUSH_SECONDS, or immediately."""

    def __init__(self, storage: Storage, term: int) -> None:
        self._segments, self._term = AppendLog(storage), term
        self._lines: list[tuple[int, str]] = []
        self._lock, self._flush_now, self._closing = threading.Condition(), False, False
        self._thread = threading.Thread(target=self._loop, name="journal", daemon=True)

    def open(self, key: str) -> None:
        self._thread.start()

    def write(self, seq: int, line: str, immediate: bool) -> None:
        with self._lock:
            self._lines.append((seq, line))
            if immediate:
                self._wake()

    def _wake(self) -> None:
        self._flush_now = True
        self._lock.notify_all()

    def _wait(self) -> bool:
        """Waits for the next time to store lines; False when the journal is being closed."""
        with self._lock:
            self._lock.wait_for(lambda: self._flush_now, FLUSH_SECONDS)
            self._flush_now = False
            return not self._closing

    def _loop(self) -> None:
        while self._wait():
            try:
                self._flush()
            except StorageError as error:
                log.warning("the journal is not stored yet, trying again: %s", error)  # the lines stay in memory

    def _flush(self) -> None:
        with self._lock:
            pending = list(self._lines)
        if pending:
            text = "".join(line for _, line in pending)
            self._segments.append(text.encode(), segments.key_of(self._term, pending[0][0]))
            with self._lock:
                del self._lines[: len(pending)]
                self._lock.notify_all()

    def stored(self, seq: int) -> bool:
        with self._lock:
            return self._lock.wait_for(lambda: not self._lines or self._lines[0][0] > seq, DURABLE_SECONDS)

    def close(self) -> None:
        with self._lock:
            self._closing = True
            self._wake()
        self._thread.join()
        self._flush()
