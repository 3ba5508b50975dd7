"""A real S3 server for tests, SeaweedFS on loopback, and a proxy in front of it that makes it fail.

SeaweedFS' anonymous mode rejects multipart uploads, so it runs with one identity. On SIGTERM it takes 15 s to
leave: it is killed, by its own pid, and everything it wrote goes with its folder.
"""

import contextlib
import functools
import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from raysweep.storage import Storage, open_storage
from tests.waiting import PATIENCE_S

HANG_SECONDS = 30.0


@dataclass
class S3Server:
    """Where an S3 server answers and with which credentials."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def env(self) -> dict[str, str]:
        """What boto3 and Ray read; also for processes that a test starts."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @functools.cached_property
    def client(self):
        """A client that does not retry, independent of the environment; threads may share it."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1}),
        )

    def new_bucket(self) -> str:
        """The url of a new, empty bucket; it ends with the server."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}"


def use(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points this process at a server, and away from the developer's own AWS configuration."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]


@contextlib.contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Starts SeaweedFS, waits until it keeps an object, and kills it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="raysweep-s3-"))
    ports = dict(zip(("master", "volume", "filer", "s3"), zip(*[iter(free_ports(8))] * 2, strict=True), strict=True))
    server = S3Server(f"http://127.0.0.1:{ports['s3'][0]}", "test-access", f"test-secret-{uuid.uuid4().hex}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(_command(folder, ports, server), stdout=log, stderr=log)
    try:
        _wait_until_ready(server, process, folder / "log")
        yield server
    finally:
        server.client.close()
        process.kill()
        process.wait()
        shutil.rmtree(folder)
        for name, (_, grpc) in ports.items():
            Path(f"/tmp/seaweedfs-{name}-grpc-{grpc}.sock").unlink(missing_ok=True)


def _command(folder: Path, ports: dict[str, tuple[int, int]], server: S3Server) -> list[str]:
    keys = [{"accessKey": server.access_key, "secretKey": server.secret_key}]
    identity = {"name": "tests", "credentials": keys, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    # One file per bucket instead of seven.
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    (folder / "data").mkdir()
    listen = [
        flag
        for name, (http_port, grpc_port) in ports.items()
        for flag in (f"-{name}.port={http_port}", f"-{name}.port.grpc={grpc_port}")
    ]
    weed = str(Path(sys.executable).with_name("weed"))
    return [
        *(weed, "-logtostderr=true", f"-config_dir={folder}", "server", *listen),
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder}/data",
        "-volume.max=500",
        "-master.volumeSizeLimitMB=64",
        f"-filer.localSocket={folder}/filer.sock",
        "-s3",
        f"-s3.config={folder}/s3.json",
        f"-s3.localSocket={folder}/s3.sock",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",  # as at AWS: a bucket that is missing is an error
    ]


def _wait_until_ready(server: S3Server, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            bucket = server.new_bucket().removeprefix("s3://")
            server.client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"weed is not ready: {error}\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)


@dataclass
class Fault:
    """What the proxy does to the `nth` request (0: to every one), or to every so manieth, of an operation.

    `key` is a pattern for a part of the object's key.
    """

    action: str
    operation: str = ""
    key: str = ""
    nth: int = 0
    every: int = 0
    status: int = 503
    code: str = ""
    keep: int = 0
    seconds: float = 0.0
    seen: int = 0

    def hits(self, operation: str, key: str) -> bool:
        """Counts a request that fits; whether it is the one."""
        if self.operation not in ("", operation) or not fnmatch(key, f"*{self.key}*"):
            return False
        self.seen += 1
        return self.seen % self.every == 0 if self.every else self.nth in (0, self.seen)


@dataclass
class S3Proxy(S3Server):
    """The server behind a fault proxy: the same credentials and buckets at another endpoint."""

    backend: S3Server = field(kw_only=True)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def new_bucket(self) -> str:
        """The url of a new, empty bucket, made past the proxy."""
        return self.backend.new_bucket()

    def refuse(
        self, operation: str = "", *, key: str = "", nth: int = 1, every: int = 0, status: int = 403, code: str = ""
    ) -> None:
        """Answers an error to the nth UploadPart, PutObject, …, or to every 7th, instead of passing it on."""
        self.faults.append(Fault("refuse", operation, key, nth, every, status, code))

    def slow(self, seconds: float) -> None:
        """Passes each request on, but only after so long."""
        self.faults.append(Fault("slow", seconds=seconds))

    def unavailable(self, *, requests: int = 0) -> None:
        """Answers 503 to the next requests; 0: to all until `heal`."""
        faults = [Fault("refuse", nth=1) for _ in range(requests)] or [Fault("refuse")]
        self.faults += faults

    def lose(self, operation: str, *, key: str = "", nth: int = 1, every: int = 0, keep: int = 0) -> None:
        """Answers 200 and keeps only the first `keep` bytes; 0 keeps no object at all."""
        self.faults.append(Fault("lose", operation, key, nth, every, keep=keep))

    def drop_answer(self, operation: str, *, key: str = "", nth: int = 1, every: int = 0) -> None:
        """Passes a request on, and breaks the connection instead of answering."""
        self.faults.append(Fault("drop", operation, key, nth, every))

    def hang(self, operation: str = "") -> None:
        """Takes requests and does not answer until `heal`."""
        self.released.clear()
        self.faults.append(Fault("hang", operation))

    def heal(self) -> None:
        """Passes everything on again."""
        self.faults.clear()
        self.released.set()

    def fault_for(self, operation: str, key: str) -> Fault | None:
        """The first fault that this request meets; every fault counts up to the one that hits."""
        self.requests.append((operation, key))
        return next((fault for fault in self.faults if fault.hits(operation, key)), None)


@contextlib.contextmanager
def running_s3_proxy(backend: S3Server) -> Iterator[S3Proxy]:
    """Runs a fault proxy in threads of this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ProxyHandler)
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    server.proxy = S3Proxy(endpoint, backend.access_key, backend.secret_key, backend=backend)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.proxy
    finally:
        server.proxy.heal()
        server.shutdown()
        thread.join()
        server.server_close()


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 2  # an idle connection ends: closing the server waits for the threads of all connections

    def log_message(self, *args) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        operation, bucket, key = self._operation()
        fault = self.server.proxy.fault_for(operation, key)
        if fault is None:
            self._forward(body)
        elif fault.action == "hang":
            self.server.proxy.released.wait(HANG_SECONDS)
            self.close_connection = True
        elif fault.action == "refuse":
            codes = {403: "AccessDenied", 500: "InternalError", 503: "ServiceUnavailable"}
            code = fault.code or codes.get(fault.status, str(fault.status))
            self._answer(fault.status, f"<Error><Code>{code}</Code><Message>by the test</Message></Error>".encode())
        elif fault.action == "slow":
            time.sleep(fault.seconds)
            self._forward(body)
        elif fault.action == "drop":
            self._ask(body)
            self.close_connection = True
        else:
            self._lose(operation, bucket, key, body[: fault.keep])

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle

    def _operation(self) -> tuple[str, str, str]:
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        if self.command == "PUT":
            name = "UploadPart" if "partNumber" in query else "PutObject"
            if "x-amz-copy-source" in self.headers:
                name = "UploadPartCopy" if "partNumber" in query else "CopyObject"
        elif self.command == "POST":
            name = "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
        elif self.command == "DELETE":
            name = "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
        else:
            name = {"GET": "GetObject" if key else "ListObjectsV2", "HEAD": "HeadObject"}[self.command]
        return name, bucket, key

    def _forward(self, body: bytes) -> None:
        self._answer(*self._ask(body))

    def _ask(self, body: bytes) -> tuple[int, bytes, list[tuple[str, str]]]:
        # S3's signature covers the Host header, so the server must see the one that the client sent.
        connection = http.client.HTTPConnection(urlsplit(self.server.proxy.backend.endpoint).netloc, timeout=20)
        with contextlib.closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheaders()

    def _answer(self, status: int, body: bytes = b"", headers: list[tuple[str, str]] = ()) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _lose(self, operation: str, bucket: str, key: str, kept: bytes) -> None:
        # The client's signature is of the whole body: what is left of it is put under the test's own.
        etag = '"00000000000000000000000000000000"'
        if kept:
            client = self.server.proxy.backend.client
            if operation == "UploadPart":
                query = parse_qs(urlsplit(self.path).query)
                part = {"PartNumber": int(query["partNumber"][0]), "UploadId": query["uploadId"][0]}
                etag = client.upload_part(Bucket=bucket, Key=key, Body=kept, **part)["ETag"]
            else:
                etag = client.put_object(Bucket=bucket, Key=key, Body=kept)["ETag"]
        copied = f"<CopyObjectResult><ETag>{etag}</ETag></CopyObjectResult>" if operation == "CopyObject" else ""
        self._answer(200, copied.encode(), headers=[("ETag", etag)])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server, one for the whole run; tests take a bucket of their own: `s3_server.new_bucket()`."""
    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    """The same server behind a proxy that this test can make fail."""
    with running_s3_proxy(s3_server) as proxy:
        yield proxy


@pytest.fixture(params=["folder", "s3"])
def either_storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty storage: a folder, and again a bucket of the real server."""
    if request.param == "folder":
        return open_storage(str(tmp_path / "runs"))
    server = request.getfixturevalue("s3_server")
    use(server, monkeypatch)
    return open_storage(f"{server.new_bucket()}/runs")
