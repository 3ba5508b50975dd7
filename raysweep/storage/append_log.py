"""An append-only log in a storage without append: a series of objects, of which only the newest is rewritten.

A long log therefore has few objects. If the store loses the newest one, the next append writes it again.
"""

from __future__ import annotations

from raysweep.storage import Storage

PART_BYTES = 256 * 1024  # an object of this size or more is not rewritten: the next bytes start a new one


class AppendLog:
    """Appends bytes to a series of objects.

    Args:
        storage: where the objects are.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage, self._key, self._body = storage, "", b""  # key and content of the newest object

    def append(self, data: bytes, key: str) -> str:
        """Appends bytes, and returns when they are in the storage: the key of the object that has them.

        Args:
            data: the bytes.
            key: of the object that they start, if the newest one is full.

        Raises:
            StorageError: the storage refused; nothing was appended.
        """
        key, body = self._key or key, self._body + data
        self._storage.put(key, body)
        self._key, self._body = (key, body) if len(body) < PART_BYTES else ("", b"")
        return key
