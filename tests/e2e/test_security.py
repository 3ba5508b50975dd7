"""While a sweep runs, on a local cluster and on the private Ray of `raysweep.run`: who gets in, who sees the token."""

from __future__ import annotations

import http.client
import re
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from raysweep.clusters.shared import processes
from raysweep.history.results import read
from tests.clusters.test_lifecycle import LOOPBACK, RAY_INIT
from tests.e2e.sweeps import add_task, events_of, start, wait_for
from tests.ray_project import Project, free_ports
from tests.waiting import PATIENCE_S, within

# Its state is all that a trial sees of its environment; the second iteration waits until the test has looked around.
SPY_TASK = """
import os
import time
from pathlib import Path

import raysweep
from ray import tune

SPACE = {{"x": tune.uniform(0.0, 1.0)}}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 2
GO = Path({go!r})


def train(config):
    for iteration in raysweep.iterations():
        while iteration == 2 and not GO.exists():
            time.sleep(0.05)
        raysweep.report({{"loss": config["x"], "process": os.getpid()}}, state=dict(os.environ))
"""

PRIVATE = """
import sys, raysweep
raysweep.run("random_search", "spy", storage=sys.argv[1], name="private", samples=1)
"""


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    connections = [each for each in process.net_connections("all") if each.status == psutil.CONN_LISTEN]
    return {(each.laddr.ip, each.laddr.port) for each in connections}


def files_of_sockets(process: psutil.Process) -> set[Path]:
    with suppress(psutil.NoSuchProcess):
        return {Path(each.laddr) for each in process.net_connections("unix") if each.laddr.startswith("/")}
    return set()


def open_ports(found: list[psutil.Process]) -> set[int]:
    ports: set[int] = set()
    for process in found:
        with suppress(psutil.NoSuchProcess):  # Ray's agents run commands that end at once
            ports |= {port for _, port in listening(process)}
    return ports


def check_processes(found: list[psutil.Process], place: Path, token: str, folder: Path) -> None:
    """Ray's own processes and the trial's: on loopback only, their sockets in a folder that is closed to others,
    and without the token where others could read it.
    """
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    sockets = {socket for process in found for socket in files_of_sockets(process)}
    assert sockets
    assert [socket for socket in sockets if not socket.is_relative_to(folder)] == []
    results = [event["metrics"] for event in events_of(place) if event["type"] == "result"]
    assert results[0]["process"] in [process.pid for process in found], "the trial is not among them"
    for process in found:
        with suppress(psutil.NoSuchProcess):
            assert {ip for ip, _ in listening(process)} <= LOOPBACK
            assert token not in " ".join([*process.cmdline(), *process.environ(), *process.environ().values()])


def check_seen_by_trial(storage: Path, name: str, token: str, token_path: str) -> None:
    environment = read(name, str(storage)).load()
    assert environment["RAY_AUTH_TOKEN_PATH"] == token_path
    assert [key for key, value in environment.items() if token in key + value] == []


@contextmanager
def running(process: subprocess.Popen[str], storage: Path, name: str, log: list[str]) -> Iterator[None]:
    """While the sweep's only trial waits in its second iteration; then the sweep finishes and `log` has its output."""
    try:
        wait_for(storage / name, "result", 1)
        yield
        (storage / "go").touch()
        log.append(process.communicate(timeout=PATIENCE_S)[0])
        assert process.returncode == 0, log
    finally:
        process.kill()
        process.wait()


def answers(address: str, path: str, token: str | None, body: bytes | None = None) -> int:
    """The HTTP status of a request to a cluster's port; 0 where no HTTP is spoken."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(address + path, headers=headers, data=body)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, http.client.HTTPException):
        return 0


def test_a_local_cluster_is_closed_while_a_sweep_runs_on_it(local_cluster: Project, tmp_path: Path) -> None:
    add_task(local_cluster, "spy", SPY_TASK.format(go=str(tmp_path / "go")))
    token, path, log = local_cluster.token, Path(local_cluster.cluster.token_path), []
    sweep = start(
        local_cluster, "submit", "random_search", "--task", "spy", "--storage", str(tmp_path), "--name", "spy",
        "--samples", "1",
    )  # fmt: skip
    with running(sweep, tmp_path, "spy", log):
        check_processes(
            processes.marked(local_cluster.cluster.id), tmp_path / "spy", token, Path(local_cluster.cluster.temp_dir)
        )
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in log[0]
    check_seen_by_trial(tmp_path, "spy", token, str(path))


@pytest.mark.parametrize(("wrong", "status"), [(None, 401), ("0" * 64, 403)])
def test_dashboard_and_jobs_api_refuse(wrong: str | None, status: int, local_cluster: Project) -> None:
    dashboard, job = local_cluster.cluster.dashboard, b'{"entrypoint": "true"}'
    for path in ("/api/version", "/api/jobs/", "/nodes?view=summary", "/api/v0/tasks", "/api/v0/logs?node_id=0"):
        assert (path, answers(dashboard, path, wrong)) == (path, status)
    assert answers(dashboard, "/api/jobs/", wrong, job) == status
    assert answers(dashboard, "/api/jobs/", local_cluster.token) == 200


def test_no_other_port_takes_a_job_without_token(local_cluster: Project) -> None:
    """The agent of each node serves jobs too."""
    ports = open_ports(processes.marked(local_cluster.cluster.id))
    asked = [f"http://127.0.0.1:{port}/api/{path}/" for port in ports for path in ("jobs", "job_agent/jobs")]
    codes = {url: answers(url, "", None, b'{"entrypoint": "true"}') for url in asked}
    assert 401 in [code for url, code in codes.items() if url.endswith("job_agent/jobs/")]
    assert [url for url, code in codes.items() if 200 <= code < 400] == []


def test_the_private_ray_of_run_is_closed_too(local_cluster: Project, tmp_path: Path) -> None:
    add_task(local_cluster, "spy", SPY_TASK.format(go=str(tmp_path / "go")))
    log: list[str] = []
    sweep = subprocess.Popen(
        [sys.executable, "-c", PRIVATE, str(tmp_path)], cwd=local_cluster.folder, env=local_cluster.env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    with running(sweep, tmp_path, "private", log):
        found = psutil.Process(sweep.pid).children(recursive=True)
        (gcs,) = [process for process in found if process.name() == "gcs_server"]
        path = Path(gcs.environ()["RAY_AUTH_TOKEN_PATH"])
        token = path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        check_processes(found, tmp_path / "private", token, path.parent)
        (port,) = {gcs_port(process) for process in found} - {None}
        refused = local_cluster.python(
            "-c", RAY_INIT, f"127.0.0.1:{port}",
            RAY_AUTH_MODE="token", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_NUM_REDIS_GET_RETRIES="1",
        )  # fmt: skip
        assert refused.returncode != 0
        assert "connected" not in refused.stdout
        assert "RAY_AUTH_TOKEN" in refused.stdout
    assert token not in log[0]
    assert not path.parent.exists()
    check_seen_by_trial(tmp_path, "private", token, str(path))


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "set RAY_AUTH_MODE to token, and RAY_AUTH_TOKEN_PATH to the cluster's token file"),
        ({"RAY_AUTH_MODE": "token"}, "set RAY_AUTH_TOKEN_PATH, now unset, to the cluster's token file"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "wrong"}, "set RAY_AUTH_TOKEN_PATH, now wrong, to"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, "RAY_AUTH_TOKEN is a different token"),
    ],
)
def test_a_job_outside_of_the_cluster_is_refused_at_once(
    environment: dict[str, str], told: str, local_cluster: Project, tmp_path: Path
) -> None:
    (local_cluster.folder / "wrong").write_text("0" * 64)
    job = ("jobs/asha.py", "--task", "quadratic", "--storage", str(tmp_path / "runs"), "--samples", "0")
    address = {"RAY_ADDRESS": local_cluster.cluster.address, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    with within(30):
        refused = local_cluster.python(*job, **address, **environment)
    assert refused.returncode == 2, refused.stdout
    assert f"RAY_ADDRESS={local_cluster.cluster.address}`: the cluster refuses this process's token" in refused.stdout
    assert told in refused.stdout
    assert "`--samples 0`" in refused.stdout
    assert "Traceback" not in refused.stdout


def test_an_address_where_nothing_listens_is_told_at_once(local_cluster: Project, tmp_path: Path) -> None:
    job = ("jobs/asha.py", "--task", "quadratic", "--storage", str(tmp_path / "runs"))
    with within(20):
        silent = local_cluster.python(*job, RAY_ADDRESS=f"127.0.0.1:{free_ports(1)[0]}")
    assert silent.returncode == 2, silent.stdout
    assert "no Ray cluster answers there" in silent.stdout


def gcs_port(process: psutil.Process) -> int | None:
    """The port of the GCS that a process of Ray was told of."""
    with suppress(psutil.NoSuchProcess):
        told = re.search(r"--gcs[-_]address=127\.0\.0\.1:(\d+)", " ".join(process.cmdline()))
        return int(told[1]) if told else None
    return None
