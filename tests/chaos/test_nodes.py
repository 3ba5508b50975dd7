"""Faults of nodes, a worker's and the head's, on the cluster of containers; `raysweep submit` follows each sweep."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep.clusters.shared import s3_keys
from raysweep.history.checkpoint import MARKER, STATE
from raysweep.history.sweep_state import SweepState
from tests.chaos.cell import chosen
from tests.chaos.remote import SIDE_BY_SIDE, RemoteCell, busiest, hit, in_groups, leftovers
from tests.chaos.test_processes import Judge
from tests.docker.conftest import DockerProject, docker, docker_cluster, docker_project, engine
from tests.waiting import until

__all__ = [
    "docker_cluster",
    "docker_project",
    "engine",
    "leftovers",
]  # the cluster of tests/docker, as fixtures of this file
# All trials of all sweeps of a group fit at once: those that wait at the gate keep nobody out.
LIGHT = ("--cpus-per-trial", "0.08")
BACK_S = 240.0


MakeNode = Callable[..., RemoteCell]


@pytest.fixture
def make(docker_cluster: DockerProject, tmp_path: Path, request: pytest.FixtureRequest) -> MakeNode:
    fault = request.node.get_closest_marker("fault").args[0]

    def cell(strategy: str, **more: object) -> RemoteCell:
        folder = tmp_path / uuid.uuid4().hex[:6]
        gate = f"gates/{tmp_path.name}-{chosen().index(strategy) // SIDE_BY_SIDE}"
        settings = {"pace": 0.5, "gate": gate, "flags": LIGHT} | more
        return RemoteCell(docker_cluster, fault, strategy, s3_keys.STORAGE, folder, **settings)

    return cell


def busy_worker(project: DockerProject, group: list[RemoteCell]) -> dict:
    """The worker on which most of the sweeps train."""
    workers = {each["Config"]["Hostname"]: each for each in project.containers("worker")}
    return workers[busiest(group, list(workers))]


def send(container: dict, number: signal.Signals) -> None:
    """To the container's first process: not by `docker kill`, after which the engine restarts nothing."""
    os.kill(container["State"]["Pid"], number)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.fault("node-killed")),
        pytest.param(signal.SIGTERM, marks=pytest.mark.fault("node-sigterm")),
    ],
)
def test_a_worker_is_killed_or_taken_back(
    make: MakeNode, judge: Judge, docker_cluster: DockerProject, number: signal.Signals
) -> None:
    def fault(group: list[RemoteCell]) -> None:
        send(busy_worker(docker_cluster, group), number)

    verdicts = in_groups([make(strategy) for strategy in chosen()], fault)
    judge([hit(verdict) for verdict in verdicts] if number == signal.SIGKILL else verdicts)
    until(lambda: docker_cluster.healthy, "all containers are healthy", BACK_S)


@pytest.mark.fault("node-cut")
def test_a_worker_is_cut_off(make: MakeNode, judge: Judge, docker_cluster: DockerProject) -> None:
    """Until the cluster has noticed; then it comes back."""

    def fault(group: list[RemoteCell]) -> None:
        victim = busy_worker(docker_cluster, group)
        (network,) = victim["NetworkSettings"]["Networks"]
        docker("network", "disconnect", network, victim["Id"])
        try:
            until(lambda: any(cell.count("failure") for cell in group), "a trial is missed")
        finally:
            docker("network", "connect", "--alias", "worker", network, victim["Id"])

    judge([hit(verdict) for verdict in in_groups([make(strategy) for strategy in chosen()], fault)])
    until(lambda: docker_cluster.healthy, "all containers are healthy", BACK_S)


@pytest.mark.fault("head-killed")
def test_the_head_is_killed_twice(make: MakeNode, judge: Judge, docker_cluster: DockerProject) -> None:
    """Once when a part of its journal has just been stored, once in the middle of an upload; one sweep at a time."""

    def fault(group: list[RemoteCell]) -> None:
        (cell,) = group
        kill_head(docker_cluster, lambda: segment(cell))
        cell.after(cell.count("result") + 4)
        kill_head(docker_cluster, lambda: upload(cell))

    cells = [make(strategy, faults=2, gate="") for strategy in chosen()]
    verdicts = in_groups(cells, fault, size=1)
    for cell, verdict in zip(cells, verdicts, strict=True):
        if cell.count("start") != 3:
            verdict.problems.append(f"{cell.count('start')} drivers, not 3: a kill came after the end")
    judge(verdicts)
    until(lambda: docker_cluster.healthy, "all containers are healthy", BACK_S)


def kill_head(project: DockerProject, moment: Callable[[], None]) -> None:
    (head,) = project.containers("head")
    moment()
    send(head, signal.SIGKILL)


def segment(cell: RemoteCell) -> None:
    """Returns when a new part of the journal is there."""
    before = len(cell.events)
    until(lambda: len(cell.events) > before, "the journal grows")


def upload(cell: RemoteCell) -> None:
    """Returns when a checkpoint's state has come, and its marker has not: one that goes loses its marker first."""
    before = set(cell.place.list("checkpoints"))

    def begun() -> bool:
        keys = cell.place.list("checkpoints")
        complete = {key.removesuffix(MARKER) for key in keys if key.endswith(MARKER)}
        new = {key for key in keys if key.endswith(STATE) and key not in before}
        before.update(keys)
        return any(key.removesuffix(STATE) not in complete for key in new)

    until(begun, "an upload")


@pytest.mark.fault("node-memory")
def test_a_trial_takes_all_memory_of_its_worker(make: MakeNode, judge: Judge, docker_cluster: DockerProject) -> None:
    """Ray's monitor ends it, the worker has no larger share to give: the trial is infeasible, and the sweep goes on."""

    def fault(group: list[RemoteCell]) -> None:
        for cell in group:
            for worker in docker_cluster.containers("worker"):
                docker("exec", worker["Id"], "touch", f"/tmp/{cell.task}/eat")

    cells = [make(strategy, gate="", flags=("--cpus-per-trial", "1")) for strategy in chosen()]
    verdicts = in_groups(cells, fault, ends=("finished", "stopped", "infeasible"), size=1)
    for cell, verdict in zip(cells, verdicts, strict=True):
        kinds = {event["kind"] for event in cell.events if event["type"] == "failure"}
        if not SweepState(cell.events).count("infeasible") or "memory" not in kinds:
            verdict.problems.append(f"no trial is infeasible: {kinds}")
    judge(verdicts)
