"""One real minikube cluster for all tests here: `make cluster-up TARGET=minikube` in a folder and a home of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.k8s.conftest import absent_images, checkout
from tests.k8s.kind_project import KindProject
from tests.minikube.small_image import small_image
from tests.s3 import free_ports


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = missing()
    for item in items:
        if "tests/minikube" not in item.path.as_posix():
            continue
        item.add_marker(pytest.mark.timeout(1800))  # with the making of the cluster
        if why:
            item.add_marker(pytest.mark.skip(reason=why))


def missing() -> str | None:
    """Why there can be no cluster here, if so."""
    for tool in ("docker", "minikube"):
        if shutil.which(tool) is None:
            return f"NO MINIKUBE HERE: `{tool}` is not installed"
    if absent := absent_images():
        return f"NO MINIKUBE HERE: there is no image {' and '.join(absent)}, see `make image`"
    return None


def apart(folder: Path, **env: str) -> KindProject:
    """A project in this folder, with a home of minikube's beside it: in the project, it would be sent with each job."""
    project, home = folder / "project", folder / "minikube"
    for each in (project, home):
        each.mkdir()
    return checkout(project, MINIKUBE_HOME=str(home), **env)


def up(project: KindProject, *, seconds: float = 900, **env: str) -> subprocess.CompletedProcess[str]:
    """`raysweep cluster up --target minikube`."""
    dashboard, s3 = free_ports(2)
    ports = ("--dashboard-port", str(dashboard), "--s3-port", str(s3))
    began = time.monotonic()
    done = KindProject(project.folder, project.env | env).run(
        "cluster", "up", "--target", "minikube", *ports, seconds=seconds
    )
    print(f"{done.stdout}cluster up: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return done


def left_of(project: KindProject, name: str) -> list[str]:
    """What this machine still has of a cluster: its profile, container, volume and network."""

    def said(*command: str) -> str:
        return subprocess.run(command, env=project.env, capture_output=True, text=True, check=True).stdout

    listed = json.loads(said("minikube", "profile", "list", "--light", "--output=json"))
    profiles = [each["Name"] for each in [*(listed["valid"] or []), *(listed["invalid"] or [])]]
    asked = (("ps", "--all", "--format={{.Names}}"), ("volume", "ls", "--format={{.Name}}"))
    names = [*profiles, *(each for words in asked for each in said("docker", *words).split())]
    return [each for each in [*names, *said("docker", "network", "ls", "--format={{.Name}}").split()] if name in each]


@pytest.fixture(scope="session")
def minikube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindProject]:
    """A project whose cluster is up, with a small image; afterwards nothing of it is left."""
    with small_image() as image:
        project = apart(tmp_path_factory.mktemp("minikube"), RAYSWEEP_IMAGE=image)
        started = up(project)
        name = project.cluster.id if started.returncode == 0 else ""
        try:
            assert started.returncode == 0, started.stdout
            yield project
        finally:
            ended = project.run("cluster", "down")
        assert ended.returncode == 0, ended.stdout
        assert left_of(project, name) == []
