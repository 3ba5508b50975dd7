"""Storage in S3, or in a store with its API."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from raysweep.errors import Unavailable
from raysweep.storage.base import MISSING, PROBE_SECONDS, Keys, Storage
from raysweep.storage.files import CHUNK, Digest, HashingReader, HashingWriter, in_parallel
from raysweep.storage.reasons import DENIED, UNKNOWN, find, right_for

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from s3transfer.manager import TransferManager

# Retries of botocore, within seconds. Its quota of retries is per process, and one long outage would use it up.
S3_TRIES = 5
OUTAGE_SECONDS = 600.0  # how long a sweep waits for the storage, with retries of our own
LONGEST_WAIT = 5.0  # seconds between two of our retries
S3_SECONDS = 20.0  # timeout of connecting, and of each response
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")  # S3's errors if the object exists, or is being written
WRONG_PARTS = ("InvalidRequest", "NoSuchUpload", "BadDigest")
MOST_SAID = 200  # characters of a store's own words in a message
LARGE = 8 * 2**20  # objects of at least so many bytes are transferred in parallel parts
# What bounds the memory of a process that moves files: parts on their way, files that are sent at a time, each of which
# may have one more, and parts that are received.
PARTS_SENT, FILES_SENT, PARTS_READ = 4, 3, 3
COPIED_PART = 2**28  # bytes: of what is copied within the store, nothing is in memory
PIECES_READ = 16  # of 256 KiB, that have come and are not written yet

# Threads that begin at the same time would each make a client of their own, of 40 MiB. A fork never copies it locked.
_making = threading.Lock()
os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)

P = ParamSpec("P")
T = TypeVar("T")
Method = Callable[Concatenate["S3Storage", P], T]


def _retrying(method: Method[P, T]) -> Method[P, T]:
    """Retries a method while the store is unavailable, for up to `patience` seconds."""

    @functools.wraps(method)
    def call(self: S3Storage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        retry = Retrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(self.patience),
            wait=wait_random_exponential(max=LONGEST_WAIT),
            reraise=True,
        )
        return retry(method, self, *args, **kwargs)

    return call


@dataclass(frozen=True)
class S3Storage(Storage):
    """`s3://bucket/prefix` at AWS, or at AWS_ENDPOINT_URL; boto3 looks up the credentials.

    Attributes:
        tries: attempts of botocore per request.
        seconds: timeout of connecting, and of each response.
        patience: seconds for which a request is retried while the store is unavailable.
    """

    tries: int = S3_TRIES
    seconds: float = S3_SECONDS
    patience: float = 0.0

    def patient(self) -> Self:
        return replace(self, patience=OUTAGE_SECONDS)

    @_retrying
    def put(self, key: str, data: bytes) -> None:
        with self._errors(key, writing=True):
            bucket, name = self._split(key)
            if len(data) < LARGE:
                self._s3.put_object(Bucket=bucket, Key=name, Body=data)
            else:
                self._s3.upload_fileobj(io.BytesIO(data), bucket, name)

    @_retrying
    def create(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        with self._errors(key, writing=True):
            bucket, name = self._split(key)
            try:
                self._s3.put_object(Bucket=bucket, Key=name, Body=data, IfNoneMatch="*")
            except ClientError as error:
                if _code(error) not in TAKEN:
                    raise
                # The object may be from an earlier attempt of this call, whose response was lost.
                return self.get(key) == data
            return True

    @_retrying
    def get(self, key: str) -> bytes:
        with self._errors(key):
            bucket, name = self._split(key)
            response = self._s3.get_object(Bucket=bucket, Key=name)
            with contextlib.closing(response["Body"]) as body:
                if response["ContentLength"] < LARGE:
                    return body.read()
            data = io.BytesIO()
            self._s3.download_fileobj(bucket, name, data)
            return data.getvalue()

    @_retrying
    def get_from(self, key: str, start: int) -> bytes:
        with self._errors(key):
            bucket, name = self._split(key)
            response = self._s3.get_object(Bucket=bucket, Key=name, Range=f"bytes={start}-")
            with contextlib.closing(response["Body"]) as body:
                return body.read()

    @_retrying
    def put_file(self, key: str, source: IO[bytes]) -> Digest:
        reader = HashingReader(source)
        with self._errors(key, writing=True):
            bucket, name = self._split(key)
            # It cannot seek, so it is read once and in order; its parts are sent in parallel.
            self._transfers().upload(cast(IO[bytes], reader), bucket, name, subscribers=[_sized(reader.total)]).result()
        return reader.digest

    @_retrying
    def get_file(self, key: str, target: IO[bytes] | None = None) -> Digest:
        writer = HashingWriter(target)
        with self._errors(key):
            bucket, name = self._split(key)
            response = self._s3.get_object(Bucket=bucket, Key=name)
            with contextlib.closing(response["Body"]) as body:
                if response["ContentLength"] < LARGE:
                    for piece in body.iter_chunks(CHUNK):
                        writer.write(piece)
                    return writer.digest
            size = _sized(response["ContentLength"])
            self._transfers().download(bucket, name, cast(IO[bytes], writer), subscribers=[size]).result()
        return writer.digest

    @_retrying
    def copy(self, source: str, key: str) -> None:
        with self._errors(source):
            bucket, name = self._split(key)
            _, old = self._split(source)
            self._transfers(COPIED_PART).copy({"Bucket": bucket, "Key": old}, bucket, name).result()

    @_retrying
    def size(self, key: str) -> int:
        from botocore.exceptions import ClientError

        with self._errors(key):
            bucket, name = self._split(key)
            try:
                return self._s3.head_object(Bucket=bucket, Key=name)["ContentLength"]
            except ClientError as error:
                if (code := _code(error)) in MISSING or find([code]).waits:
                    raise
                # The answer to a HEAD has no body, and so no code: a GET says why.
                response = self._s3.get_object(Bucket=bucket, Key=name)
                with contextlib.closing(response["Body"]):
                    return response["ContentLength"]

    def list(self, prefix: str = "") -> Keys:
        return sorted(self.sizes(prefix))

    @_retrying
    def sizes(self, prefix: str = "") -> dict[str, int]:
        with self._errors(prefix):
            bucket, root = self._split("")
            _, folder = self._split(prefix.rstrip("/"))
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder and f"{folder}/")
            found = {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}
            # Names that end with a slash are placeholders for folders, made by web consoles.
            return {name[len(root) :].lstrip("/"): size for name, size in found.items() if not name.endswith("/")}

    @_retrying
    def folders(self) -> Keys:
        with self._errors(""):
            bucket, root = self._split("")
            prefix = root and f"{root}/"
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
            prefixes = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
            return sorted(name[len(prefix) :].rstrip("/") for name in prefixes)

    @_retrying
    def delete(self, key: str) -> None:
        with self._errors(key):
            bucket, name = self._split(key)
            self._s3.delete_object(Bucket=bucket, Key=name)

    def delete_tree(self, prefix: str) -> None:
        in_parallel(self.delete, self.list(prefix))

    def probe(self) -> None:
        impatient = replace(self, tries=1, seconds=PROBE_SECONDS, patience=0.0)
        with self._errors(""):
            _ = impatient._s3  # before the timeout starts: the first import of boto3 takes long
        Storage.probe(impatient)

    @property
    def _s3(self) -> S3Client:
        # The variables that boto3 reads are part of the cache key, so that no probe uses outdated credentials.
        settings = frozenset(item for item in os.environ.items() if item[0].startswith("AWS_"))
        with _making:
            return _s3_client(os.getpid(), settings, self.tries, self.seconds)

    def _transfers(self, part: int = LARGE) -> TransferManager:
        client = self._s3
        with _making:
            return _transfer_manager(client, part)

    def _split(self, key: str) -> tuple[str, str]:
        bucket, _, name = self._at(key).removeprefix("s3://").partition("/")
        return bucket, name

    def _names(self, error: Exception) -> tuple[str, ...]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

        if isinstance(error, ClientError):
            # Stores have codes of their own: the status stands for those.
            return _code(error), str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        of_boto3 = (BotoCoreError, Boto3Error, RetriesExceededError, S3DownloadFailedError, ValueError, RecursionError)
        return (type(error).__name__,) if isinstance(error, of_boto3) else ()

    def _detail(self, error: Exception) -> str:
        from botocore.exceptions import ClientError

        if not isinstance(error, ClientError):
            return ""
        reason, right = find(self._names(error)), right_for(error.operation_name)
        if reason is DENIED and right:
            return f"; refused was {right}"
        said = " ".join(error.response.get("Error", {}).get("Message", "").split())
        return f"; the store says: {said[:MOST_SAID]}" if reason is UNKNOWN and said else ""


def _code(error: ClientError) -> str:
    """S3's code of an error; its HTTP status where the answer has no body."""
    code = error.response.get("Error", {}).get("Code", "ClientError")
    # What SeaweedFS says of parts that are not those that were sent, where AWS says InvalidPart.
    incomplete = error.operation_name == "CompleteMultipartUpload" and code in WRONG_PARTS
    return "InvalidPart" if incomplete else code


@functools.lru_cache(maxsize=4)
def _s3_client(process: int, settings: frozenset[tuple[str, str]], tries: int, seconds: float) -> S3Client:
    """One client per process, since a forked process must not share sockets.

    Checksums keep botocore's default, `when_supported`: AWS and SeaweedFS verify the CRC32 of each body, and
    SeaweedFS verifies nothing without it, not even the signed SHA256. A store without support for checksums needs
    AWS_REQUEST_CHECKSUM_CALCULATION=when_required. With an endpoint, botocore puts the bucket into the path.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=seconds,
        read_timeout=seconds,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=40,  # ten for each kind of transfer, some for small files and the journal, and spare ones
    )
    return boto3.session.Session().client("s3", config=config)


def _sized(size: int) -> Any:
    """Tells a transfer how much there is: a file of more than 10,000 parts needs larger ones."""
    from s3transfer.subscribers import BaseSubscriber

    class Sized(BaseSubscriber):
        def on_queued(self, future: Any, **_: Any) -> None:
            future.meta.provide_transfer_size(size)

    return Sized()


@functools.lru_cache(maxsize=4)
def _transfer_manager(client: S3Client, part: int) -> TransferManager:
    """What moves the files of a client, all with the same few threads and parts of so many bytes in memory."""
    from s3transfer.manager import TransferConfig, TransferManager

    config = TransferConfig(
        multipart_threshold=part,
        multipart_chunksize=part,
        max_submission_concurrency=FILES_SENT,
        max_in_memory_upload_chunks=PARTS_SENT,
        max_in_memory_download_chunks=PARTS_READ,
        max_io_queue_size=PIECES_READ,
    )
    return TransferManager(client, config)
