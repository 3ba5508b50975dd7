"""What dies under a sweep: a worker's container, the store, the head. Nothing that was reported is lost.

Each fault comes when the journal has so many results, never after a time.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from raysweep import checkpoint
from raysweep.state import SweepState
from raysweep.storage import Storage
from tests.docker.conftest import DockerProject, docker, events_of, log_of, state_of, wait_for_results

SAMPLES = 8
STORE_OUTAGE_S = 60.0


def check_nothing_lost(place: Storage) -> None:
    """Every trial ended well; one that was lost went on after its last journalled epoch, so it repeats none of them."""
    events = events_of(place)
    state = SweepState(events)
    assert len(state.trials) == SAMPLES
    assert {trial.status for trial in state.trials.values()} <= {"finished", "stopped"}
    for index, event in enumerate(events):
        if event["type"] == "failure":
            check_continued(SweepState(events[:index]), events[index:], event["trial"])
    for trial in state.trials.values():
        assert trial.checkpoint is not None
        assert checkpoint.load(place, trial.checkpoint)["path"]


def check_continued(before: SweepState, after: list[dict[str, Any]], trial: str) -> None:
    saved = before.trials[trial].checkpoint
    again = [event["iteration"] for event in after if event["type"] == "result" and event["trial"] == trial]
    assert again, f"trial {trial} did not go on"
    assert again[0] == (saved.iteration + 1 if saved else 1)


def restart(project: DockerProject, service: str) -> None:
    """Starts what was killed, and waits until all is healthy."""
    docker("start", *(each["Id"] for each in project.containers(service)))
    limit = time.monotonic() + 180
    while any(each["State"].get("Health", {}).get("Status") != "healthy" for each in project.containers()):
        assert time.monotonic() < limit, docker("ps", "--all")
        time.sleep(1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("strategy", ["asha", "tpe_asha", "pbt"])
def test_a_killed_worker_costs_at_most_one_epoch(strategy: str, docker_cluster: DockerProject) -> None:
    name = f"worker-{strategy}"
    place = docker_cluster.sweep(name)
    job = docker_cluster.submit(strategy, "--samples", str(SAMPLES), "--name", name)
    wait_for_results(place, 10)
    busy = state_of(place)
    nodes = {trial.last.node for trial in busy.trials.values() if trial.last and not trial.ended}
    victim = next(c for c in docker_cluster.containers("worker") if c["Config"]["Hostname"] in nodes)
    docker("kill", victim["Id"])
    log = log_of(job)
    assert job.returncode == 0, log
    check_nothing_lost(place)
    assert any(event["type"] == "failure" for event in events_of(place)), "the worker died and no trial noticed"
    restart(docker_cluster, "worker")


@pytest.mark.timeout(600)
def test_a_store_that_is_away_for_a_minute_costs_nothing(docker_cluster: DockerProject) -> None:
    place = docker_cluster.sweep("store-away")
    job = docker_cluster.submit("asha", "--samples", str(SAMPLES), "--name", "store-away")
    wait_for_results(place, 10)
    docker("stop", docker_cluster.containers("store")[0]["Id"])
    time.sleep(STORE_OUTAGE_S)
    restart(docker_cluster, "store")
    log = log_of(job)
    assert job.returncode == 0, log
    check_nothing_lost(place)
    assert not [event for event in events_of(place) if event["type"] == "failure"], "an outage failed a trial"


@pytest.mark.timeout(600)
def test_a_killed_head_comes_back_and_the_sweep_is_resumed(docker_cluster: DockerProject) -> None:
    place = docker_cluster.sweep("head-killed")
    flags = ("--samples", str(SAMPLES), "--name", "head-killed")
    job = docker_cluster.submit("tpe_asha", *flags)
    wait_for_results(place, 10)
    head = docker_cluster.containers("head")[0]
    os.kill(head["State"]["Pid"], signal.SIGKILL)  # not `docker kill`, after which the engine restarts nothing
    job.communicate(timeout=120)
    assert job.returncode != 0
    before = events_of(place)
    limit = time.monotonic() + 180
    while docker_cluster.run("cluster", "status").returncode != 0 or alive(docker_cluster) < 2:
        assert time.monotonic() < limit, docker("ps", "--all")
        time.sleep(1)

    again = docker_cluster.submit("tpe_asha", *flags, "--resume", "auto")
    log = log_of(again)
    assert again.returncode == 0, log
    after = events_of(place)
    assert after[: len(before)] == before
    ended = {trial.id for trial in SweepState(before).trials.values() if trial.ended}
    assert not ended & {event.get("trial") for event in after[len(before) :]}, "an ended trial was touched again"
    check_nothing_lost(place)


def alive(project: DockerProject) -> int:
    """How many nodes of the cluster hand out CPUs."""
    code = "import ray; ray.init('auto', logging_level='ERROR'); print(int(ray.cluster_resources().get('CPU', 0)))"
    try:
        return int(project.execute("head", "python", "-c", code).splitlines()[-1])
    except (AssertionError, ValueError):
        return 0
