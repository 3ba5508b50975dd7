"""The journal of a sweep: an append-only list of events, and the only truth about it.

Ray's own experiment state is a cache of at most ten seconds' age; a sweep is resumed from the journal alone.
An event is one line of JSON with a sequence number. Lines are kept in segments, `journal/<first seq>-<writer>.jsonl`:
in a folder one file per driver, written line by line; in an object store, which cannot append, one object per
second or less.

Events, by `type`:
    start     a driver began or resumed the sweep                      writer, resumed
    suggest   the search gave a configuration                          trial, config, memory
    result    a trial reported one iteration                           trial, iteration, metrics, checkpoint, node
              (and config, where it differs from the last one)
    exploit   a trial continues from another trial's checkpoint        trial, donor, checkpoint, before, after
    failure   a trial failed; it may start again                       trial, error
    complete  a trial ended                                            trial, status: finished | stopped | failed
    end       the driver left the sweep                                status
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from typing import IO, Any

from raysweep.errors import StorageError
from raysweep.storage import Storage

log = logging.getLogger(__name__)
Event = dict[str, Any]

# A result is acknowledged when the driver has it; on an object store it may be lost for this long at most.
FLUSH_SECONDS = 1.0


def read(storage: Storage) -> list[Event]:
    """All events in order. The torn last line of a writer that was killed is left out."""
    events: list[Event] = []
    for key in storage.list("journal/"):
        for line in storage.get(key).splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                break  # only the last line of a segment can be torn
    return sorted(events, key=lambda event: int(event["seq"]))


class Journal:
    """Appends events to a sweep's journal.

    Args:
        storage: the sweep's own folder or prefix.
        after: the last sequence number that is there already.
    """

    def __init__(self, storage: Storage, after: int = 0) -> None:
        self.writer = uuid.uuid4().hex[:8]
        self.seq = after
        self._sink = _FileSink(storage) if storage.local_path("") else _ObjectSink(storage, self.writer)
        self._sink.open(self._segment(after + 1))

    def _segment(self, first: int) -> str:
        return f"journal/{first:09d}-{self.writer}.jsonl"

    def append(self, type: str, **fields: Any) -> Event:
        """Writes one event and returns it.

        Raises:
            StorageError: the folder refused the line (disk full, permission).
        """
        self.seq += 1
        event = {"seq": self.seq, "type": type, "time": round(time.time(), 3), **fields}
        self._sink.write(self.seq, json.dumps(event, separators=(",", ":"), default=_plain))
        return event

    def close(self) -> None:
        """Writes what is still held back.

        Raises:
            StorageError: the storage still refuses; the events since the last segment are lost.
        """
        self._sink.close()


def _plain(value: Any) -> Any:
    # numpy's numbers come out of Ray's samplers; everything else is shown as text.
    return value.item() if hasattr(value, "item") else repr(value)


class _FileSink:
    """One file, appended line by line: a killed process loses nothing that was appended."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._file: IO[str]

    def open(self, key: str) -> None:
        path = self._storage.local_path(key)
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, seq: int, line: str) -> None:
        try:
            self._file.write(line + "\n")
        except OSError as error:
            raise StorageError(f"{self._storage.url}: the journal cannot be written: {error.strerror}") from error

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class _ObjectSink:
    """Collects lines and puts them as one object a second, from a thread of its own."""

    def __init__(self, storage: Storage, writer: str) -> None:
        self._storage, self._writer = storage, writer
        self._lines: list[tuple[int, str]] = []
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._loop, name="journal", daemon=True)

    def open(self, key: str) -> None:
        self._thread.start()

    def write(self, seq: int, line: str) -> None:
        with self._lock:
            self._lines.append((seq, line))

    def _loop(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            try:
                self._flush()
            except StorageError as error:
                log.warning("the journal waits: %s", error)  # the lines are kept, the next second tries again

    def _flush(self) -> None:
        with self._lock:
            held = list(self._lines)
        if held:
            body = "".join(line + "\n" for _, line in held)
            self._storage.put(f"journal/{held[0][0]:09d}-{self._writer}.jsonl", body.encode())
            with self._lock:
                del self._lines[: len(held)]

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._flush()
