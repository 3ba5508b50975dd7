"""A storage in memory, and a journal in it: what a simulated sweep leaves behind goes with its process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from raysweep.errors import NotFound
from raysweep.history import journal
from raysweep.history.journal import Event, Journal
from raysweep.storage import Storage

Keys = list[str]
Folder = dict[str, Any]  # name -> bytes, or the folder of that name


@dataclass(frozen=True)
class MemoryStorage(Storage):
    """Objects in a tree of dictionaries, so that to list or delete a folder costs what is in it, and no more."""

    url: str = "memory://"
    tree: Folder = field(default_factory=dict, repr=False, compare=False)

    def put(self, key: str, data: bytes) -> None:
        """Stores the bytes themselves."""
        folder, name = self._place(key)
        folder[name] = data

    def create(self, key: str, data: bytes) -> bool:
        """Whether it was not there before."""
        folder, name = self._place(key)
        return folder.setdefault(name, data) is data

    def append(self, key: str, data: bytes) -> None:
        """Adds to the object's end; one that is not there is made."""
        folder, name = self._place(key)
        folder.setdefault(name, bytearray()).extend(data)

    def get(self, key: str) -> bytes:
        """A copy of what was appended to, else the bytes themselves."""
        return bytes(self._object(key))

    def size(self, key: str) -> int:
        """Its length."""
        return len(self._object(key))

    def list(self, prefix: str = "") -> Keys:
        """All keys below a folder."""
        inside = self._find(prefix.strip("/"))
        return sorted(_keys(inside, prefix.strip("/"))) if isinstance(inside, dict) else []

    def folders(self) -> Keys:
        """The names of the folders here."""
        here = self._find("") or {}
        return sorted(name for name, inside in here.items() if isinstance(inside, dict))

    def delete(self, key: str) -> None:
        """Forgets an object."""
        if not isinstance(self._find(key), dict):
            self.delete_tree(key)

    def delete_tree(self, prefix: str) -> None:
        """Forgets a folder."""
        folder, name = self._place(prefix.strip("/"))
        folder.pop(name, None)

    def _path(self, key: str) -> Keys:
        return [name for name in self._at(key).split("/") if name]

    def _place(self, key: str) -> tuple[Folder, str]:
        folder, (*above, name) = self.tree, self._path(key)
        for each in above:
            folder = folder.setdefault(each, {})
        return folder, name

    def _find(self, key: str) -> Any:
        """The object or the folder under a key; None if there is neither."""
        found: Any = self.tree
        for name in self._path(key):
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def _object(self, key: str) -> bytes:
        found = self._find(key)
        if found is None or isinstance(found, dict):
            raise NotFound(f"{self._at(key)}: nothing is stored there")
        return found

    def _name(self, error: Exception) -> str | None:
        return None


def _keys(folder: Folder, above: str) -> Iterator[str]:
    for name, inside in list(folder.items()):
        key = f"{above}/{name}" if above else name
        if isinstance(inside, dict):
            yield from _keys(inside, key)
        else:
            yield key


class MemoryJournal(Journal):
    """A journal whose lines are in memory as soon as they are written. The time of its events is a simulation's.

    Args:
        storage: the sweep's own.
        term: of the driver; no other journal has it.
        after: the last sequence number that is there already.
        clock: tells the time.
    """

    def __init__(self, storage: MemoryStorage, term: int, after: int, clock: Callable[[], float]) -> None:
        self.term, self.seq = term, after
        self._storage, self._key, self._clock = storage, f"journal/{term:06d}-{after + 1:09d}.jsonl", clock

    def append(self, type: str, **fields: Any) -> Event:
        """Writes one event and returns it."""
        self.seq += 1
        event = {"seq": self.seq, "type": type, "time": round(self._clock(), 3), **fields}
        self._storage.append(self._key, (journal.to_json(event) + "\n").encode())
        return event

    def stored(self, seq: int) -> bool:
        """They all are."""
        return True

    def close(self) -> None:
        """Nothing is held back."""
