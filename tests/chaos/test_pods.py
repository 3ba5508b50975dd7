"""Faults of pods, on the kind cluster of tests/k8s: a worker's, and the head's of a RayJob, which goes on by itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.cell import chosen
from tests.chaos.remote import RemoteCell, busiest, hit, in_groups, leftovers
from tests.chaos.test_processes import Judge
from tests.k8s.conftest import kind, missing
from tests.k8s.kind_project import KindProject

__all__ = ["kind", "leftovers"]  # as a fixture of this file
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "")
SIDE_BY_SIDE = 2
RAYJOB_S = 600.0  # a cluster is made for it, and another head


class RayJobCell(RemoteCell):
    """A sweep on a cluster of its own."""

    how = "rayjob"


MakePods = Callable[..., RemoteCell]


@pytest.fixture
def make(kind: KindProject, tmp_path: Path, request: pytest.FixtureRequest) -> MakePods:
    fault = request.node.get_closest_marker("fault").args[0]
    kind.state("none")  # sets what S3 needs

    def cell(strategy: str, of: type[RemoteCell] = RemoteCell, **more: object) -> RemoteCell:
        settings = {"pace": 0.5, "flags": ("--cpus-per-trial", "0.25")} | more
        return of(kind, fault, strategy, kind.cluster.storage, tmp_path / uuid.uuid4().hex[:6], **settings)

    return cell


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(("--grace-period=0", "--force"), marks=pytest.mark.fault("pod-killed")),
        pytest.param(("--wait=false",), marks=pytest.mark.fault("pod-deleted")),
    ],
)
def test_a_workers_pod_is_killed_or_deleted(
    make: MakePods, judge: Judge, kind: KindProject, how: tuple[str, ...]
) -> None:
    def fault(group: list[RemoteCell]) -> None:
        pods = [pod["metadata"]["name"] for pod in kind.workers()]
        done = kind.kubectl("delete", "pod", busiest(group, pods), *how)
        assert done.returncode == 0, done.stderr

    verdicts = in_groups([make(strategy) for strategy in chosen()], fault, size=SIDE_BY_SIDE)
    judge([hit(verdict) for verdict in verdicts] if "--force" in how else verdicts)


@pytest.mark.fault("head-pod-deleted")
def test_a_rayjobs_head_is_deleted(make: MakePods, judge: Judge, kind: KindProject) -> None:
    """The operator makes another, and gives it the job again."""

    def fault(group: list[RemoteCell]) -> None:
        (cell,) = group
        (head,) = kind.pods("ray.io/node-type=head", "ray.io/cluster!=raysweep")
        done = kind.kubectl("delete", "pod", head["metadata"]["name"], "--wait=false")
        assert done.returncode == 0, done.stderr
        cell.after(cell.count("result") + 1)

    cells = [make(strategy, RayJobCell, deadline=RAYJOB_S) for strategy in chosen()]
    judge(in_groups(cells, fault, size=1))
