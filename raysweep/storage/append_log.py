"""What is only appended to, in a store that cannot append: objects of which only the newest is written again.

A long text has few of them to read, and what a store took and did not keep comes with the next bytes.
"""

from __future__ import annotations

from raysweep.storage import Storage

PART_BYTES = 256 * 1024  # from which an object is not written again: the next bytes begin another


class Parts:
    """Appends bytes.

    Args:
        storage: where the objects go.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage, self._key, self._body = storage, "", b""  # of the newest object

    def append(self, data: bytes, key: str) -> None:
        """Returns when they are in the storage.

        Args:
            data: the bytes.
            key: of the object that they begin, if the newest is full.

        Raises:
            StorageError: the storage refused; nothing was appended.
        """
        key, body = self._key or key, self._body + data
        self._storage.put(key, body)
        self._key, self._body = (key, body) if len(body) < PART_BYTES else ("", b"")
