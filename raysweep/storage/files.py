"""Files on their way into a storage and out of it: hashed while they are read or written, and several at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import IO, NamedTuple, TypeVar

AT_ONCE = 8  # files that are moved at the same time
CHUNK = HEAD = 2**20  # bytes that are read and hashed at a time, and those at a file's beginning

T = TypeVar("T")
Result = TypeVar("Result")


class Digest(NamedTuple):
    """What tells one content from another.

    Attributes:
        size: in bytes.
        sha256: in hex.
        head: the sha256 of its first HEAD bytes: where these differ, nobody needs to read the rest.
    """

    size: int
    sha256: str
    head: str


class _Hash:
    """Hashes what goes past."""

    def __init__(self) -> None:
        self._all, self._head, self._size = hashlib.sha256(), hashlib.sha256(), 0

    def update(self, data: bytes) -> None:
        if self._size < HEAD:
            self._head.update(data[: HEAD - self._size])
        self._all.update(data)
        self._size += len(data)

    @property
    def digest(self) -> Digest:
        """Of what has gone past so far."""
        return Digest(self._size, self._all.hexdigest(), self._head.hexdigest())


class HashingReader(_Hash):
    """Reads a file once, from its beginning to its end, and hashes what it reads.

    Attributes:
        total: bytes of the file, when it was opened.

    Raises:
        RuntimeError: the file cannot be read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file, self.total = file, file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """The next bytes; all that are left if no size is given."""
        with _local_errors(self._file, "read"):
            data = self._file.read(size)
        self.update(data)
        return data


class HashingWriter(_Hash):
    """Writes a file anew, from its beginning to its end, and hashes what it writes; without a file it only hashes.

    Raises:
        RuntimeError: the file cannot be written.
    """

    def __init__(self, file: IO[bytes] | None = None) -> None:
        super().__init__()
        self._file = file
        if file is not None:
            file.seek(0)
            file.truncate()

    def write(self, data: bytes) -> int:
        """Appends bytes."""
        if self._file is not None:
            with _local_errors(self._file, "written"):
                self._file.write(data)
        self.update(data)
        return len(data)


@contextlib.contextmanager
def _local_errors(file: IO[bytes], done: str) -> Iterator[None]:
    """An error of this machine's disk is told from one of the storage, which may be a folder, too."""
    try:
        yield
    except OSError as error:
        where = file.name if isinstance(file.name, str) else tempfile.gettempdir()
        raise RuntimeError(f"{where}: cannot be {done}: {error.strerror}: check the disk of this machine") from error


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
