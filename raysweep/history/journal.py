"""The journal of a sweep: an append-only list of events, and the only truth about it.

Ray's own experiment state is a cache of at most ten seconds' age; a sweep is resumed from the journal alone.
An event is one line of JSON with a sequence number. Lines are kept in segments, `journal/<term>-<first seq>.jsonl`:
in a folder one file per driver, written line by line; in an object store, which cannot append, objects that are
written again each second while they are small. The term is that of the driver's lease (see `lease`): where a later
term begins, an earlier one ends, whatever a driver that lost its lease still writes.

Events, by `type`:
    start     a driver began or resumed the sweep                      term, resumed
    suggest   the search gave a configuration                          trial, config, memory
    result    a trial reported one iteration                           trial, iteration, metrics, checkpoint, node
              (and config, where it differs from the last one; stop, where Tune answered it with a stop; adopted,
              where a resume found it with its checkpoint: see unrecorded)
    exploit   a trial continues from another trial's checkpoint        trial, donor, checkpoint, before, after
    damaged   a checkpoint of a trial's own is no longer whole         trial, checkpoint (its key)
    failure   a trial failed; it may start again                       trial, error, kind: see loop.failures
    complete  a trial ended                                            trial, status: see state.ENDED
    end       the driver left the sweep                                status
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from raysweep.errors import StorageError
from raysweep.storage import Storage
from raysweep.storage.append_log import AppendLog

log = logging.getLogger(__name__)
Event = dict[str, Any]

# A result is acknowledged when the driver has it. In an object store one without a checkpoint may be lost for so long.
FLUSH_SECONDS = 1.0
SOON = ("suggest",)  # stored at once: what a trial has saved is found again by its name
READERS = 16
MOST_NESTED = 100  # dictionaries and lists in each other
DURABLE_SECONDS = 60.0  # how long somebody who needs an event stored waits for that


def read(storage: Storage) -> list[Event]:
    """All events in order.

    Left out are the torn last line of a writer that was killed, and what a driver wrote after another one had begun.
    """
    terms: dict[int, list[Event]] = {}
    keys = storage.list("journal/")
    with ThreadPoolExecutor(READERS) as readers:  # an object store answers slowly, and many at a time
        for key, segment in zip(keys, readers.map(storage.get, keys), strict=True):
            term = int(key.removeprefix("journal/").partition("-")[0])
            terms.setdefault(term, []).extend(_lines(segment))
    events: list[Event] = []
    for term in sorted(terms):
        began = terms[term][0]["seq"] if terms[term] else math.inf
        events = [event for event in events if event["seq"] < began] + terms[term]
    return events


def _lines(segment: bytes) -> list[Event]:
    events = []
    for line in segment.splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break  # only the last line of a segment can be torn
    return events


class Journal:
    """Appends events to a sweep's journal.

    Args:
        storage: the sweep's own folder or prefix.
        term: of the driver's lease; no other journal has it.
        after: the last sequence number that is there already.
    """

    def __init__(self, storage: Storage, term: int, after: int = 0) -> None:
        self.term, self.seq = term, after
        self._sink = _FileSink(storage) if storage.local_path("") else _ObjectSink(storage, term)
        self._sink.open(_segment(term, after + 1))

    def append(self, type: str, **fields: Any) -> Event:
        """Writes one event and returns it.

        Raises:
            StorageError: the folder refused the line (disk full, permission).
        """
        self.seq += 1
        event = {"seq": self.seq, "type": type, "time": round(time.time(), 3), **fields}
        self._sink.write(self.seq, to_json(event), type in SOON)
        return event

    def stored(self, seq: int) -> bool:
        """Waits until the event with this number is in the storage; False if that takes too long.

        What an event makes superfluous may be removed only then: after a crash the journal ends before it.
        """
        return self._sink.stored(seq)

    def close(self) -> None:
        """Writes what is still held back.

        Raises:
            StorageError: the storage still refuses; the events since the last segment are lost.
        """
        self._sink.close()


def _segment(term: int, first: int) -> str:
    return f"journal/{term:06d}-{first:09d}.jsonl"


def plain(value: Any) -> Any:
    """What stands in JSON for a value that it does not know: a number for one of numpy, else text."""
    with contextlib.suppress(Exception):  # an array of several numbers has no item, a user's class may have another one
        item = value.item()
        if isinstance(item, bool | int | float | str):  # numpy's longdouble gives itself
            return item
    return _text(value)


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # of a user's class, or nested too deep
        return f"<{type(value).__name__}>"


def to_json(value: Any) -> str:
    """One line of JSON for whatever a configuration holds; what JSON does not know, keys included, becomes text."""
    try:
        return json.dumps(value, separators=(",", ":"), default=plain)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(_plain_tree(value, ()), separators=(",", ":"), default=plain)


def _plain_tree(value: Any, around: tuple[int, ...]) -> Any:
    """With keys that JSON knows, and without circles; `around` are the ids of what this is part of."""
    if id(value) in around or len(around) >= MOST_NESTED:
        return _text(value)
    inside = (*around, id(value))
    if isinstance(value, dict):
        return {k if isinstance(k, str) else _text(k): _plain_tree(v, inside) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_tree(each, inside) for each in value]
    return value


class _FileSink:
    """One file, appended line by line: a killed process loses nothing that was appended."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._file: IO[str]
        self._written = self._synced = 0

    def open(self, key: str) -> None:
        path = self._storage.local_path(key)
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        _sync_folder(path.parent)

    def write(self, seq: int, line: str, soon: bool) -> None:
        try:
            self._file.write(line + "\n")
            self._written = seq
        except OSError as error:
            raise StorageError(
                f"{self._storage.url}: the journal cannot be written: {error.strerror}: what it says already is safe:"
                " mend that, then continue with --resume auto"
            ) from error

    def stored(self, seq: int) -> bool:
        if self._synced < seq:  # a killed process loses nothing, a machine without power what is in its memory
            written = self._written
            os.fsync(self._file.fileno())
            self._synced = written
        return True

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _sync_folder(path: Path) -> None:
    """Makes what it lists last, too."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _ObjectSink:
    """Collects lines, and puts them from a thread of its own: once a second, or soon."""

    def __init__(self, storage: Storage, term: int) -> None:
        self._segments, self._term = AppendLog(storage), term
        self._lines: list[tuple[int, str]] = []
        self._lock, self._soon, self._closing = threading.Condition(), False, False
        self._thread = threading.Thread(target=self._loop, name="journal", daemon=True)

    def open(self, key: str) -> None:
        self._thread.start()

    def write(self, seq: int, line: str, soon: bool) -> None:
        with self._lock:
            self._lines.append((seq, line))
            if soon:
                self._wake()

    def _wake(self) -> None:
        self._soon = True
        self._lock.notify_all()

    def _wait(self) -> bool:
        """For the next time to put; False when there will be none."""
        with self._lock:
            self._lock.wait_for(lambda: self._soon, FLUSH_SECONDS)
            self._soon = False
            return not self._closing

    def _loop(self) -> None:
        while self._wait():
            try:
                self._flush()
            except StorageError as error:
                log.warning("the journal waits: %s", error)  # the lines are kept, the next second tries again

    def _flush(self) -> None:
        with self._lock:
            held = list(self._lines)
        if held:
            lines = "".join(line + "\n" for _, line in held)
            self._segments.append(lines.encode(), _segment(self._term, held[0][0]))
            with self._lock:
                del self._lines[: len(held)]
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
