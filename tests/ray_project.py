"""A throw-away project folder with a command line, for tests that start or use a real cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from raysweep.clusters import lifecycle
from raysweep.clusters.targets import Cluster
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
OF_RAY = ("RAY_", "RAYSWEEP_")
PROBE_JOB = Path(__file__).with_name("probe_job.py")


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without anything of Ray's, and with a home that has no token."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(OF_RAY)}
    return kept | {"HOME": str(home)} | more


def free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class Project:
    """A project folder and its command line.

    Attributes:
        folder: holds jobs/, tasks/ and raysweep/, copies of this repository's, and jobs/probe.py.
        env: the environment of its commands.
    """

    folder: Path
    env: dict[str, str]
    ports: list[str] = field(default_factory=lambda: free_ports(2))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "raysweep", *arguments]

    def run(self, *arguments: str, seconds: float = PATIENCE_S, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs `raysweep …` in the project; stderr is part of stdout."""
        return self.python(*self.command(*arguments)[1:], seconds=seconds, **env)

    def python(self, *arguments: str, seconds: float = PATIENCE_S, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )

    def up(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        ports = ("--port", self.ports[0], "--dashboard-port", self.ports[1])
        return self.run("cluster", "up", *ports, *arguments, **env)

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[None]:
        """Its cluster is up, and down again at the end."""
        try:
            started = self.up(*arguments)
            assert started.returncode == 0, started.stdout
            yield
        finally:
            ended = self.run("cluster", "down")
        assert ended.returncode == 0, ended.stdout

    @property
    def cluster(self) -> Cluster:
        found = lifecycle.read(self.folder)
        assert found is not None, "no cluster is recorded"
        return found

    @property
    def token(self) -> str:
        return Path(self.cluster.token_path).read_text()

    @property
    def ray_env(self) -> dict[str, str]:
        return ray_env(self.cluster)


def ray_env(up: Cluster) -> dict[str, str]:
    """What `cluster up` tells the user of plain Ray to export."""
    return {
        "RAY_API_SERVER_ADDRESS": up.dashboard,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": up.token_path,
    }


def make_project(folder: Path) -> Project:
    """A project with this repository's packages, the probe job and no ignore files."""
    for package in ("jobs", "tasks", "raysweep"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROBE_JOB, folder / "jobs" / "probe.py")
    return Project(folder, clean_environment(folder))
