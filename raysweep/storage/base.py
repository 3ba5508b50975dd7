"""The interface of every storage, and its error messages.

Objects are named by keys with slashes, relative to the storage's url. A prefix is a folder of keys; "" means all of
them. Every failure is a StorageError that names the object, the cause and the fix, and never a credential.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Self

from raysweep import env
from raysweep.errors import BadInput, Corrupt, NotFound, StorageError, Unavailable
from raysweep.storage.files import Digest, HashingReader, HashingWriter

Keys = list[str]
Outcome = list[StorageError | None]  # of a probe; the last item counts

PROBE_SECONDS = 3.0

ELSEWHERE = "choose another --storage"
CREDENTIALS = "correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or their permissions"
NO_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
ENDPOINT = "start the store, or correct AWS_ENDPOINT_URL, the network or the proxy"
# Names of errno values, S3 error codes and botocore's exceptions -> cause, fix.
REASONS = {
    "EACCES EPERM": ("no permission", f"change the folder's owner or mode, or {ELSEWHERE}"),
    "EROFS": ("no permission, the file system is read-only", ELSEWHERE),
    "ENOSPC EDQUOT": ("the disk is full", f"free some space, or {ELSEWHERE}"),
    "ENOTDIR EEXIST": ("a file stands where a folder should be", f"move it away, or {ELSEWHERE}"),
    "403 AccessDenied InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken": ("no permission", CREDENTIALS),
    "NoCredentialsError PartialCredentialsError": ("no credentials", NO_CREDENTIALS),
    "NoSuchBucket": ("no such bucket", f"create it, or {ELSEWHERE}"),
    "EndpointConnectionError ConnectTimeoutError ReadTimeoutError ConnectionClosedError": ("unreachable", ENDPOINT),
    "ResponseStreamingError IncompleteReadError RetriesExceededError": ("the response was incomplete", ENDPOINT),
    "ValueError ProxyConnectionError SSLError": ("unreachable", ENDPOINT),
    "InvalidPart": ("the store has lost a part of what was written", "check its disk and its log"),
    "500 502 503 504 InternalError ServiceUnavailable SlowDown": (
        "the store is not available",
        "try again later",
    ),
}
# Where S3 keys may come from, in the order of boto3.
KEY_SOURCES = (env.AWS_ACCESS_KEY_ID, env.AWS_PROFILE, env.AWS_SHARED_CREDENTIALS_FILE)
# Temporary errors: the store is restarting, or overloaded.
TRANSIENT = (
    *("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"),
    *("ResponseStreamingError", "IncompleteReadError", "RetriesExceededError"),
    *("500", "502", "503", "504", "InternalError", "ServiceUnavailable", "SlowDown"),
)
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
    def _name(self, error: Exception) -> str | None:
        """The name of an error of the underlying library, as in REASONS; None if the error is not from there."""

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
        """Writes an object, reads it back and deletes it, within PROBE_SECONDS.

        Raises:
            StorageError: the storage cannot be used; one line with the url, the cause and the fix.
            Unavailable: the same, but it may be usable later.
        """
        # A socket's timeout is per address and per read, and a dead NFS mount has none: the thread may never end.
        timeout = Unavailable(f"{self.url}: unreachable, no answer in {PROBE_SECONDS:g} s: {ENDPOINT}")
        outcome: Outcome = [timeout]
        thread = threading.Thread(target=self._round_trip, args=(outcome,), name="probe", daemon=True)
        thread.start()
        thread.join(PROBE_SECONDS)
        if problem := outcome[-1]:
            raise problem

    def _round_trip(self, outcome: Outcome) -> None:
        key, data = f".probe-{uuid.uuid4().hex}", os.urandom(64)
        try:
            self.put(key, data)
            intact = self.exists(key) and self.get(key) == data
            self.delete(key)
            damaged = StorageError(f"{self.url}: the storage does not give back what was written: {ELSEWHERE}")
            outcome.append(None if intact else damaged)
        except StorageError as error:
            outcome.append(
                type(error)(str(error).replace(f"/{key}", ""))
            )  # without the random key, which means nothing to the user

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
            if (name := self._name(error)) is None:
                raise
            if name in MISSING and not writing:
                raise NotFound(f"{where}: nothing is stored there") from error
            matches = (reason for names, reason in REASONS.items() if name in names.split())
            cause, fix = next(matches, ("refused", ELSEWHERE))
            kind = Unavailable if name in TRANSIENT else Corrupt if name in LOST else StorageError
            whose = _whose_keys() if fix in (CREDENTIALS, NO_CREDENTIALS) else ""
            raise kind(f"{where}: {cause} ({name}): {fix}{whose}") from error


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
