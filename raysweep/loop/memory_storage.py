"""A storage in memory, and a journal in it, for simulated sweeps: their data are lost with the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from raysweep.errors import NotFound
from raysweep.history import segments
from raysweep.history.journal import Event, Journal
from raysweep.storage import Storage
from raysweep.values import to_json

Keys = list[str]
Folder = dict[str, Any]  # name -> bytes, or the folder of that name


@dataclass(frozen=True)
class MemoryStorage(Storage):
    """Objects in a tree of dictionaries: to list or delete a folder takes time in proportion to its own content."""

    url: str = "memory://"
    tree: Folder = field(default_factory=dict, repr=False, compare=False)

    def put(self, key: str, data: bytes) -> None:
        """Stores the bytes themselves."""
        folder, name = self._place(key)
        folder[name] = data

    def create(self, key: str, data: bytes) -> bool:
        """Stores an object if there is none yet; returns whether it did."""
        folder, name = self._place(key)
        return folder.setdefault(name, data) is data

    def append(self, key: str, data: bytes) -> None:
        """Appends to an object, which is created if necessary."""
        folder, name = self._place(key)
        folder.setdefault(name, bytearray()).extend(data)

    def get(self, key: str) -> bytes:
        """A copy of an appended object, else the bytes themselves."""
        return bytes(self._object(key))

    def size(self, key: str) -> int:
        """Its length."""
        return len(self._object(key))

    def list(self, prefix: str = "") -> Keys:
        """All keys below a folder."""
        folder = self._find(prefix.strip("/"))
        return sorted(_keys(folder, prefix.strip("/"))) if isinstance(folder, dict) else []

    def folders(self) -> Keys:
        """The names of the folders at the top level."""
        top = self._find("") or {}
        return sorted(name for name, node in top.items() if isinstance(node, dict))

    def delete(self, key: str) -> None:
        """Deletes an object."""
        if not isinstance(self._find(key), dict):
            self.delete_tree(key)

    def delete_tree(self, prefix: str) -> None:
        """Deletes a folder."""
        folder, name = self._place(prefix.strip("/"))
        folder.pop(name, None)

    def _path(self, key: str) -> Keys:
        return [name for name in self._at(key).split("/") if name]

    def _place(self, key: str) -> tuple[Folder, str]:
        folder, (*parents, name) = self.tree, self._path(key)
        for parent in parents:
            folder = folder.setdefault(parent, {})
        return folder, name

    def _find(self, key: str) -> Any:
        """The object or the folder with this key; None if there is neither."""
        node: Any = self.tree
        for name in self._path(key):
            node = node.get(name) if isinstance(node, dict) else None
        return node

    def _object(self, key: str) -> bytes:
        node = self._find(key)
        if node is None or isinstance(node, dict):
            raise NotFound(f"{self._at(key)}: nothing is stored there")
        return node

    def _names(self, error: Exception) -> tuple[str, ...]:
        return ()


def _keys(folder: Folder, prefix: str) -> Iterator[str]:
    for name, node in list(folder.items()):
        key = f"{prefix}/{name}" if prefix else name
        if isinstance(node, dict):
            yield from _keys(node, key)
        else:
            yield key


class MemoryJournal(Journal):
    """A journal whose lines are in memory as soon as they are written. Its events have the simulation's time.

    Args:
        storage: the sweep's own.
        term: of the driver; unique to this journal.
        after: the last sequence number that exists already.
        clock: returns the time.
    """

    def __init__(self, storage: MemoryStorage, term: int, after: int, clock: Callable[[], float]) -> None:
        self.term, self.seq = term, after
        self._storage, self._key, self._clock = storage, segments.key_of(term, after + 1), clock

    def append(self, type: str, **fields: Any) -> Event:
        """Writes one event and returns it."""
        self.seq += 1
        event = {"seq": self.seq, "type": type, "time": round(self._clock(), 3), **fields}
        self._storage.append(self._key, segments.seal(to_json(event)).encode())
        return event

    def stored(self, seq: int) -> bool:
        """Always true: events are stored at once."""
        return True

    def close(self) -> None:
        """Nothing to do: nothing is buffered."""
