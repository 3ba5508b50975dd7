"""One cluster of containers for all tests here, of the images that `make image` has built.

Without a Docker engine every test is skipped, with the reason; without the images they fail.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysweep.clusters.shared import s3_keys
from raysweep.history import journal
from raysweep.history.sweep_state import SweepState
from raysweep.storage import Storage, open_storage
from tests.ray_project import ROOT, Project, make_project
from tests.waiting import PATIENCE_S, until

IMAGE = os.environ.get("RAYSWEEP_IMAGE", "raysweep:local")
STORE_IMAGE = os.environ.get("RAYSWEEP_STORE_IMAGE", "raysweep-store:local")
SLOW_TASK = """
from tasks.quadratic import MAX_ITERATIONS, METRIC, MODE, MUTABLE, SPACE, train

SPACE = SPACE | {"delay_s": 0.3}
"""


def docker(*arguments: str, check: bool = True, seconds: float = 300) -> str:
    """What `docker …` prints, errors included."""
    done = subprocess.run(
        ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds
    )
    assert not check or done.returncode == 0, done.stdout
    return done.stdout.strip()


class DockerProject(Project):
    """A project whose cluster is of containers."""

    def up(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        ports = ("--dashboard-port", self.ports[0], "--s3-port", self.ports[1])
        return self.run("cluster", "up", "--target", "docker", *ports, *arguments, seconds=400, **env)

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What `docker inspect` says of the cluster's containers, or of those of one service."""
        labels = {"com.docker.compose.project": self.cluster.id}
        labels |= {"com.docker.compose.service": service} if service else {}
        filters = [f"--filter=label={name}={value}" for name, value in labels.items()]
        ids = docker("ps", "--all", "--quiet", *filters).split()
        return json.loads(docker("inspect", *ids)) if ids else []

    def execute(self, service: str, *command: str) -> str:
        """What a command prints in the first container of a service."""
        return docker("exec", self.containers(service)[0]["Id"], *command)

    @property
    def ray(self) -> list[str]:
        """Ray's own command line."""
        return [str(Path(sys.executable).with_name("ray"))]

    def submit(self, strategy: str, *flags: str, task: str = "slow", detached: bool = False) -> subprocess.Popen[str]:
        """Plain Ray, as the README has it."""
        command = [
            *self.ray,
            "job",
            "submit",
            "--working-dir",
            ".",
            *(["--no-wait"] if detached else []),
            "--",
            "python",
            f"jobs/{strategy}.py",
            "--task",
            task,
        ]
        return subprocess.Popen(
            [*command, *flags], cwd=self.folder, env=self.env | self.ray_env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def make(self, target: str, *variables: str) -> str:
        """What this repository's `make` prints in the project."""
        raysweep = f"RAYSWEEP={sys.executable} -m raysweep"
        made = ["make", f"--file={ROOT}/Makefile", "--old-file=.venv/.ready", raysweep, target, *variables]
        env = {name: value for name, value in self.env.items() if name not in ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES")}
        done = subprocess.run(
            made, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def healthy(self) -> bool:
        """Whether every container is."""
        return all(each["State"].get("Health", {}).get("Status") == "healthy" for each in self.containers())

    def busy_worker(self, place: Storage) -> dict[str, Any] | None:
        """A worker's container in which a trial of the sweep runs that has reported."""
        trials = state_of(place).trials.values()
        nodes = {trial.last.node for trial in trials if trial.last and not trial.ended}
        return next((each for each in self.containers("worker") if each["Config"]["Hostname"] in nodes), None)

    def sweep(self, name: str) -> Storage:
        """Where a sweep is in the cluster's own store."""
        return open_storage(f"{s3_keys.STORAGE}/{name}")


def events_of(place: Storage) -> list[dict[str, Any]]:
    return journal.read(place)


def state_of(place: Storage) -> SweepState:
    return SweepState(events_of(place))


def wait_for_results(place: Storage, count: int) -> None:
    """Returns when so many results are journalled."""

    def there() -> bool:
        return sum(event["type"] == "result" for event in events_of(place)) >= count

    until(there, f"{place.url} did not get to {count} results")


def log_of(job: subprocess.Popen[str], seconds: float = PATIENCE_S) -> str:
    log, _ = job.communicate(timeout=seconds)
    return log


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine that answers."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        pytest.skip("NO DOCKER ENGINE: nothing of the docker target was tested")


@contextlib.contextmanager
def temporary_project(folder: Path) -> Iterator[DockerProject]:
    """A project without a cluster; at the end nothing of one may be left."""
    made = make_project(folder)
    project = DockerProject(made.folder, made.env | {"RAYSWEEP_IMAGE": IMAGE, "RAYSWEEP_STORE_IMAGE": STORE_IMAGE})
    shutil.copytree(ROOT / "docker", project.folder / "docker")
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, project.folder)
    (project.folder / "tasks" / "slow.py").write_text(SLOW_TASK)
    try:
        yield project
    finally:
        ended = project.run("cluster", "down", "--volumes")
    assert ended.returncode == 0, ended.stdout


@contextlib.contextmanager
def running_cluster(project: DockerProject) -> Iterator[DockerProject]:
    """Its cluster is up: a head, two workers and the store, which this process may read."""
    started = project.up("--workers", "2", "--num-cpus", "1")  # so a trial for each worker, on any machine
    assert started.returncode == 0, started.stdout
    own = project.cluster
    os.environ |= s3_keys.environment(own.endpoint, Path(own.credentials_path))
    try:
        yield project
    finally:
        ended = project.run("cluster", "down", "--volumes")
    assert ended.returncode == 0, ended.stdout


@pytest.fixture(scope="session")
def docker_project(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerProject]:
    """A project folder of these tests."""
    with temporary_project(tmp_path_factory.mktemp("project")) as project:
        yield project


@pytest.fixture(scope="session")
def docker_cluster(docker_project: DockerProject) -> Iterator[DockerProject]:
    """The project with its cluster up."""
    with running_cluster(docker_project) as running:
        yield running
