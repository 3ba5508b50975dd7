"""Faults of nodes: the driver is a job on a cluster of containers."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.plain.run import as_job
from tests.chaos.plain.sweep import EAT
from tests.docker.conftest import DockerProject, docker, running_cluster, temporary_project
from tests.waiting import until

FAULTS = ("node-killed", "node-sigterm", "node-cut", "node-memory", "head-killed")


def on_nodes(faults: list[str]) -> Iterator[dict[str, Any]]:
    """Faults of nodes: the driver is a job on a cluster of containers."""
    with (
        tempfile.TemporaryDirectory(prefix="plain-") as place,
        temporary_project(Path(place)) as project,
        running_cluster(project),
    ):
        for fault in faults:
            yield {"fault": fault, **_node(fault, project)}
            _wait_until_healthy(project)


def _node(fault: str, project: DockerProject) -> dict[str, Any]:
    cpus = 1 if fault == "node-memory" else 0.4
    sweep = as_job(fault, project.ray, project.folder, project.env | project.ray_env, "store:8333", cpus)
    if fault == "head-killed":
        (head,) = project.containers("head")
        os.kill(head["State"]["Pid"], signal.SIGKILL)
        sweep.process.communicate()
        _wait_until_healthy(project)
        sweep.again()
        return sweep.end()
    busy = sweep.steps()[-1][4]
    victim = next(each for each in project.containers("worker") if each["Config"]["Hostname"] == busy)
    if fault == "node-memory":
        sweep.notes.put(EAT, b"")
    elif fault == "node-cut":
        (network,) = victim["NetworkSettings"]["Networks"]
        docker("network", "disconnect", network, victim["Id"])
        time.sleep(60)
        docker("network", "connect", "--alias", "worker", network, victim["Id"])
    else:
        os.kill(victim["State"]["Pid"], signal.SIGKILL if fault == "node-killed" else signal.SIGTERM)
    return sweep.end()


def _wait_until_healthy(project: DockerProject) -> None:
    until(lambda: project.healthy, "all containers are healthy")
