"""The interface of every storage, and its error messages.

Objects are named by keys with slashes, relative to the storage's url. A prefix is a folder of keys; "" means all of
them. Every failure is a StorageError that names the object, the cause and the fix, and never a credential.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Self

from raysweep import env
from raysweep.errors import BadInput, Corrupt, NotFound, StorageError, Unavailable
from raysweep.storage.files import Digest, HashingReader, HashingWriter
from raysweep.storage.reasons import ELSEWHERE, ENDPOINT, find

Keys = list[str]

PROBE_SECONDS = 3.0  # a request that has no answer for so long; a store may take longer for all of them

# Where S3 keys may come from, in the order of boto3.
KEY_SOURCES = (env.AWS_ACCESS_KEY_ID, env.AWS_PROFILE, env.AWS_SHARED_CREDENTIALS_FILE)
LOST = ("InvalidPart",)
MISSING = ("ENOENT", "EISDIR", "NoSuchKey", "404")


@dataclass(frozen=True)
class Storage(ABC):
    """A place for objects. Cheap to create, and pickled to Ray's workers.

    Every method raises StorageError when the storage refuses or is not reachable.
    """

    url: str

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Writes an object atomically: a reader sees the old one or the new one, never a part of it."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Writes an object if there is none; of several simultaneous writers, exactly one gets True."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The object's bytes; NotFound when there is none."""

    def get_from(self, key: str, start: int) -> bytes:
        """The object's bytes from this one on, counted from 0; there must be one. NotFound when there is no object."""
        return self.get(key)[start:]

    @abstractmethod
    def size(self, key: str) -> int:
        """The object's size in bytes; NotFound when there is none."""

    @abstractmethod
    def list(self, prefix: str = "") -> Keys:
        """The keys of all objects in the folder `prefix` and below it, sorted."""

    @abstractmethod
    def folders(self) -> Keys:
        """The names of the folders directly in this one, sorted; their contents are not listed."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Removes an object, if there is one."""

    @abstractmethod
    def delete_tree(self, prefix: str) -> None:
        """Removes all objects in the folder `prefix` and below it."""

    # Here by way of memory: a store that takes large objects moves them in pieces.

    def put_file(self, key: str, source: IO[bytes]) -> Digest:
        """Writes an object from a file, as atomically as `put`; returns what was read from it."""
        reader = HashingReader(source)
        self.put(key, reader.read())
        return reader.digest

    def get_file(self, key: str, target: IO[bytes] | None = None) -> Digest:
        """Writes an object into a file, and returns what was read; without a file it only reads.

        NotFound when there is none.
        """
        writer = HashingWriter(target)
        writer.write(self.get(key))
        return writer.digest

    def copy(self, source: str, key: str) -> None:
        """Makes an object with the content of another one, within the storage; NotFound when there is none."""
        self.put(key, self.get(source))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """The sizes in bytes of all objects in the folder `prefix` and below it, by their keys."""
        return {key: self.size(key) for key in self.list(prefix)}

    @abstractmethod
    def _names(self, error: Exception) -> tuple[str, ...]:
        """The names of an error of the underlying library, the most exact one first; none if it is not from there."""

    def _detail(self, error: Exception) -> str:
        """What only this error tells, as the end of its message; often nothing."""
        return ""

    def local_path(self, key: str) -> Path | None:
        """The object's path in the file system; None in an object store."""
        return None

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        try:
            return self.size(key) >= 0
        except NotFound:
            return False

    def patient(self) -> Self:
        """The same storage, but its methods wait while the store is unavailable for a while, instead of failing."""
        return self

    def child(self, prefix: str) -> Self:
        """The folder `prefix` of this storage, as a storage of its own."""
        return replace(self, url=self._at(prefix.strip("/")))

    def probe(self) -> None:
        """Lists, writes, reads back and deletes: all that a sweep needs, each answered within PROBE_SECONDS.

        Raises:
            StorageError: the storage cannot be used; one line with the url, the cause and the fix.
            Unavailable: the same, but it may be usable later.
        """
        # A socket's timeout is per address and per read, and a dead NFS mount has none: the thread may never end.
        answers: queue.SimpleQueue[Exception | bool] = queue.SimpleQueue()
        threading.Thread(target=self._round_trip, args=(answers.put,), name="probe", daemon=True).start()
        answer: Exception | bool = False  # whether it was the last one
        while not answer:
            try:
                answer = answers.get(timeout=PROBE_SECONDS)
            except queue.Empty:
                message = f"{self.url}: unreachable, no answer in {PROBE_SECONDS:g} s: {ENDPOINT}"
                raise Unavailable(message) from None
            if isinstance(answer, Exception):
                raise answer

    def _round_trip(self, answered: Callable[[Exception | bool], None]) -> None:
        """Calls `answered` after each request: with False, with what went wrong, and after the last one with True."""
        key, data = f".probe-{uuid.uuid4().hex}", os.urandom(64)
        try:
            self.list(key)
            answered(False)
            self.put(key, data)
            answered(False)
            intact = self._reads(key, data)
            answered(False)
            self.delete(key)
            damaged = StorageError(f"{self.url}: the storage does not give back what was written: {ELSEWHERE}")
            answered(intact or damaged)
        except StorageError as error:
            # Without the random key, which means nothing to the user.
            answered(type(error)(str(error).replace(f"/{key}", "")))
        except Exception as error:
            answered(error)

    def _reads(self, key: str, data: bytes) -> bool:
        try:
            return self.get(key) == data
        except NotFound:
            return False

    def _at(self, key: str) -> str:
        if key.startswith("/") or ".." in key.split("/"):
            raise BadInput(f"key `{key}`: leaves {self.url}: remove the leading `/` and every `..`")
        return f"{self.url.rstrip('/')}/{key}" if key else self.url

    @contextlib.contextmanager
    def _errors(self, key: str, *, writing: bool = False) -> Iterator[None]:
        where = self._at(key)
        try:
            yield
        except Exception as error:
            if not (names := self._names(error)):
                raise
            name, reason = names[0], find(names)
            if name in MISSING and not writing:
                raise NotFound(f"{where}: nothing is stored there") from error
            kind = Unavailable if reason.waits else Corrupt if name in LOST else StorageError
            more = self._detail(error) + (_whose_keys() if reason.keys else "")
            raise kind(f"{where}: {reason.cause} ({name}): {reason.fix}{more}") from error


def _whose_keys() -> str:
    """Of a job, in whose environment a user's shell does not count: where its keys come from; empty outside of one."""
    if env.RAY_JOB_CONFIG_JSON_ENV_VAR not in os.environ:
        return ""
    # Not from boto3, which would ask the cloud once more for a role.
    source = next((name for name in KEY_SOURCES if os.environ.get(name)), None)
    found = f"those of {source}" if source else f"none of {', '.join(KEY_SOURCES)}"
    return (
        f"; a job has the keys that its cluster or `--env` gives it, here {found}:"
        f" give it others with `--env {env.AWS_ACCESS_KEY_ID} --env {env.AWS_SECRET_ACCESS_KEY}`"
    )
