"""Files on their way into a storage and out of it: hashed while they are read or written, and several at a time."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
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
        self._hash, self._head, self.size = hashlib.sha256(), "", 0

    def update(self, data: bytes | memoryview) -> None:
        if not self._head and self.size + len(data) > HEAD:
            rest = HEAD - self.size
            self._hash.update(data[:rest])
            self._head = self._hash.hexdigest()
            self._hash.update(memoryview(data)[rest:])
        else:
            self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> Digest:
        """Of what has gone past so far."""
        sha256 = self._hash.hexdigest()
        return Digest(self.size, sha256, self._head or sha256)


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
        try:
            data = self._file.read(size)
        except OSError as error:
            raise _of_this_machine(self._file, "read", error) from error
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

    def write(self, data: bytes | memoryview) -> int:
        """Appends bytes."""
        if self._file is not None:
            try:
                self._file.write(data)
            except OSError as error:
                raise _of_this_machine(self._file, "written", error) from error
        self.update(data)
        return len(data)


def _of_this_machine(file: IO[bytes], done: str, error: OSError) -> RuntimeError:
    """An error of this machine's disk is told from one of the storage, which may be a folder, too."""
    where = file.name if isinstance(file.name, str) else tempfile.gettempdir()
    return RuntimeError(f"{where}: cannot be {done}: {error.strerror}: check the disk of this machine")


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
