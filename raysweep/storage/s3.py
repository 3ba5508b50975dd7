"""Storage in S3, or in a store that speaks its protocol."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from raysweep.errors import Unavailable
from raysweep.storage.base import PROBE_SECONDS, Keys, Storage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# By botocore, within seconds. It has a quota of retries for the whole process, which one outage would use up.
S3_TRIES = 5
OUTAGE_SECONDS = 600.0  # what a sweep sits out, by retries of our own
LONGEST_WAIT = 5.0  # between two of these
S3_SECONDS = 20.0  # for the connection, and again for each answer
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")  # S3's answers when an object is there, or being written
LARGE = 8 * 2**20  # bytes from which an object travels in parts, in parallel

P = ParamSpec("P")
T = TypeVar("T")
Method = Callable[Concatenate["S3Storage", P], T]


def _patiently(method: Method[P, T]) -> Method[P, T]:
    """Calls it again while the store is away, as long as the storage's patience lasts."""

    @functools.wraps(method)
    def call(self: S3Storage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        again = Retrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(self.patience),
            wait=wait_random_exponential(max=LONGEST_WAIT),
            reraise=True,
        )
        return again(method, self, *args, **kwargs)

    return call


@dataclass(frozen=True)
class S3Storage(Storage):
    """`s3://bucket/prefix` at AWS, or at AWS_ENDPOINT_URL; credentials are found as boto3 finds them.

    Attributes:
        tries: of one request, by botocore.
        seconds: for the connection, and again for each answer.
        patience: seconds in which requests to a store that is away are repeated.
    """

    tries: int = S3_TRIES
    seconds: float = S3_SECONDS
    patience: float = 0.0

    def patient(self) -> Self:
        return replace(self, patience=OUTAGE_SECONDS)

    @_patiently
    def put(self, key: str, data: bytes) -> None:
        with self._errors(key, writing=True):
            bucket, name = self._split(key)
            if len(data) < LARGE:
                self._s3.put_object(Bucket=bucket, Key=name, Body=data)
            else:
                self._s3.upload_fileobj(io.BytesIO(data), bucket, name)

    @_patiently
    def create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        with self._errors(key, writing=True):
            bucket, name = self._split(key)
            try:
                self._s3.put_object(Bucket=bucket, Key=name, Body=data, IfNoneMatch="*")
            except ClientError as error:
                if self._name(error) not in TAKEN:
                    raise
                # Perhaps by a try of this very call whose answer was lost.
                return self.get(key) == data
            return True

    @_patiently
    def get(self, key: str) -> bytes:
        with self._errors(key):
            bucket, name = self._split(key)
            answer = self._s3.get_object(Bucket=bucket, Key=name)
            with answer["Body"] as body:
                if answer["ContentLength"] < LARGE:
                    return body.read()
            data = io.BytesIO()
            self._s3.download_fileobj(bucket, name, data)
            return data.getvalue()

    @_patiently
    def size(self, key: str) -> int:
        with self._errors(key):
            bucket, name = self._split(key)
            return self._s3.head_object(Bucket=bucket, Key=name)["ContentLength"]

    @_patiently
    def list(self, prefix: str = "") -> Keys:
        with self._errors(prefix):
            bucket, root = self._split("")
            _, folder = self._split(prefix.rstrip("/"))
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder and f"{folder}/")
            names = [item["Key"] for page in pages for item in page.get("Contents", [])]
            # Names that end with a slash are folders that consoles draw.
            return sorted(name[len(root) :].lstrip("/") for name in names if not name.endswith("/"))

    @_patiently
    def folders(self) -> Keys:
        with self._errors(""):
            bucket, root = self._split("")
            prefix = root and f"{root}/"
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
            found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
            return sorted(name[len(prefix) :].rstrip("/") for name in found)

    @_patiently
    def delete(self, key: str) -> None:
        with self._errors(key):
            bucket, name = self._split(key)
            self._s3.delete_object(Bucket=bucket, Key=name)

    def delete_tree(self, prefix: str) -> None:
        for key in self.list(prefix):
            self.delete(key)

    def probe(self) -> None:
        hasty = replace(self, tries=1, seconds=PROBE_SECONDS / 2, patience=0.0)
        with self._errors(""):
            _ = hasty._s3  # the first import of boto3 takes long, and says nothing about the store
        Storage.probe(hasty)

    @property
    def _s3(self) -> S3Client:
        # What boto3 reads is part of the name, so that a probe never passes with credentials of before.
        settings = frozenset(item for item in os.environ.items() if item[0].startswith("AWS_"))
        return _s3_client(os.getpid(), settings, self.tries, self.seconds)

    def _split(self, key: str) -> tuple[str, str]:
        bucket, _, name = self._at(key).removeprefix("s3://").partition("/")
        return bucket, name

    def _name(self, error: Exception) -> str | None:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

        if isinstance(error, ClientError):
            return error.response.get("Error", {}).get("Code", "ClientError")
        known = (BotoCoreError, Boto3Error, RetriesExceededError, S3DownloadFailedError, ValueError)
        return type(error).__name__ if isinstance(error, known) else None


@functools.lru_cache(maxsize=4)
def _s3_client(process: int, settings: frozenset[tuple[str, str]], tries: int, seconds: float) -> S3Client:
    """One client a process, since a forked one may not share sockets.

    Checksums stay as botocore has them, `when_supported`: AWS and SeaweedFS verify each body's CRC32, and
    SeaweedFS verifies nothing without it, not even the signed SHA256. A store that knows no checksums needs
    AWS_REQUEST_CHECKSUM_CALCULATION=when_required. With an endpoint, botocore puts the bucket into the path.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=seconds,
        read_timeout=seconds,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=20,  # the ten of one transfer, and the journal's thread
    )
    return boto3.session.Session().client("s3", config=config)
