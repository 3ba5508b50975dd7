"""One real kind cluster for all tests here: `make cluster-up TARGET=kind` in a folder of its own.

KIND_PROJECT names a project whose cluster is up already, to try a test without waiting for a new one.
KIND_FULL=1 runs what takes long, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep.clusters.shared.images import is_here
from tests.k8s.kind_project import KindProject
from tests.ray_project import ROOT, make_project
from tests.s3 import free_ports

IMAGES = ("raysweep:local", "raysweep-store:local")
# Of the names that tests/conftest.py takes away from tests, none is needed here.
NAMES = ("KIND_NODE_IMAGE", "KUBERAY_MANIFESTS", "KUEUE_IMAGE", "KUEUE_MANIFESTS", "PATH")
KEPT = {name: os.environ[name] for name in NAMES if name in os.environ}
FULL = bool(os.environ.get("KIND_FULL"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = missing()
    for item in items:
        if "tests/k8s" not in item.path.as_posix():
            continue
        item.add_marker(pytest.mark.timeout(1800))  # with the making of the cluster
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
        elif not FULL and item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="takes long: KIND_FULL=1"))


def missing() -> str | None:
    """Why there can be no cluster here, if so."""
    for tool in ("docker", "kind"):
        if shutil.which(tool) is None:
            return f"NO KUBERNETES HERE: `{tool}` is not installed"
    absent = absent_images()
    return f"NO KUBERNETES HERE: there is no image {' and '.join(absent)}, see `make image`" if absent else None


def absent_images() -> list[str]:
    """The images that the engine of this machine lacks."""
    return [name for name in IMAGES if not is_here(name)]


def checkout(folder: Path, **env: str) -> KindProject:
    """A project in this folder, without a cluster."""
    made = make_project(folder)
    for name in (".rayignore", ".gitignore", "k8s"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    # What a test has set for boto3, to read a cluster's store, would go into the next cluster's pods.
    plain = {name: value for name, value in made.env.items() if not name.startswith("AWS_")}
    return KindProject(folder, plain | KEPT | env)


@contextlib.contextmanager
def running_kind(folder: Path) -> Iterator[KindProject]:
    """A project in this folder, whose cluster is up; afterwards nothing of it is left."""
    project = checkout(folder)
    dashboard, s3 = free_ports(2)
    started = project.run(
        "cluster", "up", "--target", "kind", "--dashboard-port", str(dashboard), "--s3-port", str(s3), seconds=1500
    )
    print(started.stdout, file=sys.stderr)
    try:
        assert started.returncode == 0, started.stdout
        yield project
    finally:
        name = project.cluster.id if started.returncode == 0 else ""
        ended = project.run("cluster", "down")
    assert ended.returncode == 0, ended.stdout
    assert name not in subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True).stdout
    assert name not in subprocess.run(["docker", "ps", "--all"], capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def kind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindProject]:
    """The cluster of all tests."""
    if given := os.environ.get("KIND_PROJECT"):
        yield KindProject(Path(given))
        return
    with running_kind(tmp_path_factory.mktemp("kind")) as project:
        yield project
