"""The local cluster, with real Ray: what it starts, where it listens, whom it lets in, what it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from raysweep import env
from raysweep.clusters import lifecycle
from raysweep.clusters.ping import Answer, ask
from raysweep.clusters.shared import processes
from raysweep.errors import ClusterError
from tests.ray_project import Project, make_project
from tests.waiting import PATIENCE_S, within

pytest_plugins = ["tests.ray_cluster"]

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def listening(cluster_id: str) -> set[tuple[str, int]]:
    addresses = set()
    for process in processes.marked(cluster_id):
        with contextlib.suppress(psutil.NoSuchProcess):  # a short helper of Ray's, that has ended meanwhile
            for connection in process.net_connections("all"):
                if connection.status == psutil.CONN_LISTEN:
                    addresses.add((connection.laddr.ip, connection.laddr.port))
    return addresses


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project without a cluster, of a user who has a stray token of Ray's."""
    made = make_project(tmp_path)
    (tmp_path / "home" / ".ray").mkdir(parents=True)
    (tmp_path / "home" / ".ray" / "auth_token").write_text("stray")
    made.env["HOME"] = str(tmp_path / "home")
    yield made
    assert made.run("cluster", "down").returncode == 0


@pytest.fixture
def decoy() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's Ray, as far as names go, marked as another cluster's."""
    args = ["ray::IDLE", "-c", "import time; time.sleep(600)", "raylet", "--gcs-address=127.0.0.1:6379"]
    other = subprocess.Popen(args, executable=sys.executable, env=os.environ | {env.RAYSWEEP_CLUSTER_ID: "another"})
    yield other
    other.kill()
    other.wait()


def test_up_again_is_harmless(local_cluster):
    before = local_cluster.cluster
    again = local_cluster.up()
    assert again.returncode == 0
    assert "already up" in again.stdout
    assert before.dashboard in again.stdout
    assert local_cluster.cluster == before
    assert local_cluster.run("cluster", "status").returncode == 0


def test_up_prints_how_to_reach_it(local_cluster):
    printed = local_cluster.run("cluster", "status").stdout
    for name, value in local_cluster.ray_env.items():
        assert f"{name}={value}" in printed
    assert "cat .raysweep/token" in printed
    assert str(local_cluster.folder / "runs") in printed
    assert local_cluster.token not in printed


def test_listens_on_loopback_only(local_cluster):
    addresses = listening(local_cluster.cluster.id)
    assert {int(port) for port in local_cluster.ports} <= {port for _, port in addresses}
    assert {ip for ip, _ in addresses} <= LOOPBACK


def test_secret_is_for_its_owner(local_cluster):
    folder = local_cluster.folder / ".raysweep"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    assert len(bytes.fromhex(local_cluster.token)) == 32
    assert local_cluster.token not in (folder / "cluster.json").read_text()
    for process in processes.marked(local_cluster.cluster.id):
        assert local_cluster.token not in " ".join([*process.cmdline(), *process.environ().values()])


@pytest.mark.parametrize(("token", "answer"), [(None, Answer.MISSING), ("wrong", Answer.WRONG)])
def test_dashboard_refuses(local_cluster, token, answer):
    assert ask(local_cluster.cluster.dashboard, token) is answer
    assert ask(local_cluster.cluster.dashboard, local_cluster.token) is Answer.OK


RAY_INIT = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); print('connected')"


@pytest.mark.parametrize("token", [None, "wrong"])
def test_ray_init_refuses(local_cluster, token):
    env = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    env |= {"RAY_AUTH_TOKEN": token} if token else {}
    env |= {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # Ray tries 20 times, a second each
    refused = local_cluster.python("-c", RAY_INIT, local_cluster.cluster.address, seconds=PATIENCE_S, **env)
    assert refused.returncode != 0
    assert "RAY_AUTH_TOKEN" in refused.stdout
    assert "connected" not in refused.stdout


def test_busy_port_is_named_before_anything_starts(project):
    with socket.create_server(("127.0.0.1", int(project.ports[1]))), within(5):
        refused = project.up()
    assert refused.returncode == 2
    assert refused.stdout.startswith(f"error: `--dashboard-port` {project.ports[1]} is in use by ")
    assert f"(pid {os.getpid()})" in refused.stdout
    assert len(refused.stdout.splitlines()) == 1
    assert lifecycle.read(project.folder) is None


def test_impossible_port_is_named(project):
    failed = project.run("cluster", "up", "--port", project.ports[0], "--dashboard-port", "80000")
    assert failed.returncode == 2
    assert "80000" in failed.stdout
    assert lifecycle.read(project.folder) is None


def test_killed_head_is_replaced_and_only_ours_ends(project, decoy):
    assert project.up().returncode == 0
    dead = project.cluster
    for pid in dead.pids:
        os.kill(pid, signal.SIGKILL)
    status = project.run("cluster", "status")
    assert (status.returncode, "has died" in status.stdout) == (1, True)

    assert project.up(RAYSWEEP_STORAGE="mine").returncode == 0
    alive = project.cluster
    assert alive.id != dead.id
    assert (dead.storage, alive.storage) == (str(project.folder / "runs"), str(project.folder / "mine"))
    assert ask(alive.dashboard, "stray") is Answer.WRONG
    assert processes.marked(dead.id) == []
    assert not Path(dead.temp_dir).exists()

    with within(5):
        assert project.run("cluster", "down").returncode == 0
    assert processes.marked(alive.id) == []
    assert not Path(alive.temp_dir).exists()
    assert "nothing to do" in project.run("cluster", "down").stdout
    assert decoy.poll() is None


def test_damaged_record_is_named(tmp_path):
    (tmp_path / ".raysweep").mkdir()
    (tmp_path / ".raysweep" / "cluster.json").write_text(json.dumps({"target": "local"}))
    with pytest.raises(ClusterError, match=r"cluster\.json is damaged"):
        lifecycle.status(tmp_path)


def test_token_is_made_once_and_closed(tmp_path):
    first = lifecycle.ensure_token(tmp_path).read_text()
    (tmp_path / "token").chmod(0o644)
    path = lifecycle.ensure_token(tmp_path)
    assert path.read_text() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
