"""Files on their way into a storage and out of it: hashed while they are read or written, and several at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import IO, NamedTuple, TypeVar

AT_ONCE = 8  # files that are moved at the same time
CHUNK = 2**20  # bytes that are read and hashed at a time

T = TypeVar("T")
Result = TypeVar("Result")


class Digest(NamedTuple):
    """What tells one content from another: its size in bytes, and its sha256 in hex."""

    size: int
    sha256: str


class HashingReader:
    """Reads a file once, from its beginning to its end, and hashes what it reads.

    Attributes:
        total: bytes of the file, when it was opened.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self._size = file, hashlib.sha256(), 0
        self.total = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """The next bytes; all that are left if no size is given."""
        data = self._file.read(size)
        self._hash.update(data)
        self._size += len(data)
        return data

    @property
    def digest(self) -> Digest:
        """Of what has been read so far."""
        return Digest(self._size, self._hash.hexdigest())


class HashingWriter:
    """Writes a file anew, from its beginning to its end, and hashes what it writes; without a file it only hashes."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file, self._hash, self._size = file, hashlib.sha256(), 0
        if file is not None:
            file.seek(0)
            file.truncate()

    def write(self, data: bytes) -> int:
        """Appends bytes."""
        if self._file is not None:
            self._file.write(data)
        self._hash.update(data)
        self._size += len(data)
        return len(data)

    @property
    def digest(self) -> Digest:
        """Of what has been written so far."""
        return Digest(self._size, self._hash.hexdigest())


def in_parallel(function: Callable[[T], Result], items: Iterable[T]) -> list[Result]:
    """Calls a function with each item, AT_ONCE of them at the same time; returns the results in the items' order.

    After an error no further call begins, and it is raised when those that run have ended.
    """
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="files") as pool:
        calls = [pool.submit(function, item) for item in items]
        try:
            done, _ = wait(calls, return_when=FIRST_EXCEPTION)
            failed = next((call for call in calls if call in done and call.exception()), None)
            return [call.result() for call in calls] if failed is None else [failed.result()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
