"""Getting at a cluster that is busy, away for a moment, or not there; each is a real server of this test's own."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raysweep.clusters import lifecycle, ping
from raysweep.clusters.targets import Cluster
from raysweep.errors import ClusterError
from raysweep.submit import connection
from tests.s3 import free_ports
from tests.waiting import within

TOKEN = "0123456789"


@contextlib.contextmanager
def serving(port: int, slow: int = 0) -> Iterator[list[str | None]]:
    """A dashboard whose first answers come too late; yields the tokens that it received."""
    tokens: list[str | None] = []

    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            if len(tokens) <= slow:
                time.sleep(3 * ping.SECONDS)
            body = json.dumps({"version": "4", "ray_version": "2", "ray_commit": ""}).encode()
            with contextlib.suppress(ConnectionError):  # the client is gone
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Dashboard)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield tokens
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(ping, "SECONDS", 0.2)
    monkeypatch.setattr(connection, "PATIENCE_S", 3.0)
    (port,) = free_ports(1)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    return port


def record(project: Path, port: int, target: str) -> None:
    """The project has a cluster."""
    (project / lifecycle.FOLDER).mkdir()
    token = project / lifecycle.FOLDER / "token"
    token.write_text(TOKEN)
    own = Cluster(target, "raysweep-x", f"http://127.0.0.1:{port}", "", str(project), str(token))
    (project / lifecycle.FOLDER / "cluster.json").write_text(json.dumps(asdict(own)))


def test_a_busy_cluster_is_waited_for_with_one_message(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(port, slow=2) as tokens:
        connection.connect(tmp_path)
    assert len(tokens) >= 3
    assert set(tokens) == {f"Bearer {TOKEN}"}
    assert capsys.readouterr().err == f"http://127.0.0.1:{port} does not answer yet: waiting 3 s\n"


def test_a_cluster_that_stays_busy_is_not_reported_as_missing(tmp_path: Path, port: int) -> None:
    with serving(port, slow=100), pytest.raises(ClusterError, match="is too busy to answer: try again later"):
        connection.connect(tmp_path)


@pytest.mark.parametrize("target", ["docker", "kind", "k8s", "aws"])
def test_a_cluster_that_comes_back_by_itself_is_waited_for(target: str, tmp_path: Path, port: int) -> None:
    record(tmp_path, port, target)
    come_back = threading.Event()

    def later() -> None:
        time.sleep(1)
        with serving(port):
            come_back.wait()

    thread = threading.Thread(target=later)
    thread.start()
    try:
        connection.connect(tmp_path)
    finally:
        come_back.set()
        thread.join()


def test_a_lasting_cluster_that_stays_away_is_named(tmp_path: Path, port: int) -> None:
    record(tmp_path, port, "kind")
    began = time.monotonic()
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at http://127.0.0.1:{port}"):
        connection.connect(tmp_path)
    assert time.monotonic() - began >= 3


@pytest.mark.parametrize("recorded", [True, False])
def test_a_cluster_that_does_not_restart_is_not_waited_for(recorded: bool, tmp_path: Path, port: int) -> None:
    if recorded:
        record(tmp_path, port, "local")
    with within(2), pytest.raises(ClusterError, match="no Ray cluster answers"):
        connection.connect(tmp_path)
