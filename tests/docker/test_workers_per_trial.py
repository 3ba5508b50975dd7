"""Trials of two workers on two containers, one of which is killed: whole trials stop, move and go on.

A container has room for three workers. So each has a trial of its own, and a third trial is on both of them.
"""

from __future__ import annotations

import shutil

import pytest

from raysweep.history import checkpoint
from tests.docker.conftest import DockerProject, docker, events_of, log_of, state_of, wait_for_results
from tests.docker.test_faults import SAMPLES, check_continued, restart, victim_of
from tests.ray_project import ROOT

BEFORE = 8  # results
TASK = "pair"


@pytest.fixture(scope="module")
def pairs(docker_cluster: DockerProject) -> DockerProject:
    """The cluster, whose jobs find the task."""
    shutil.copy(ROOT / "tests" / "pair_task.py", docker_cluster.folder / f"{TASK}.py")
    return docker_cluster


@pytest.mark.timeout(600)
@pytest.mark.parametrize("strategy", ["asha", "pbt"])
def test_a_killed_container_costs_its_trials_at_most_one_epoch(strategy: str, pairs: DockerProject) -> None:
    name = f"pairs-{strategy}"
    place = pairs.sweep(name)
    flags = ("--workers-per-trial", "2", "--cpus-per-trial", "0.3", "--samples", str(SAMPLES), "--name", name)
    job = pairs.submit(strategy, *flags, task=TASK)
    wait_for_results(place, BEFORE)
    docker("kill", victim_of(pairs, place))  # after which the engine does not restart it
    try:
        log = log_of(job)
    finally:
        restart(pairs, "worker")
    assert job.returncode == 0, log
    events = events_of(place)
    state = state_of(place)
    assert len(state.trials) == SAMPLES
    assert {trial.status for trial in state.trials.values()} <= {"finished", "stopped"}
    failures = [index for index, event in enumerate(events) if event["type"] == "failure"]
    assert failures, "the container died and no trial noticed"
    assert {events[index]["kind"] for index in failures} <= {"lost", "node"}, [events[index] for index in failures]
    for index in failures:
        check_continued(type(state)(events[:index]), events[index:], events[index]["trial"])
    results = [event["metrics"] for event in events if event["type"] == "result"]
    assert {metrics["apart"] for metrics in results} == {0.0}, "the workers of a trial have different weights"
    assert {metrics["half"] for metrics in results} == {0}, "a part of a trial was placed"
    after = [event["metrics"] for event in events[failures[-1] + 1 :] if event["type"] == "result"]
    assert after[-1]["placed"] == 1, "three workers are room for one trial"
    for trial in state.trials.values():
        assert trial.checkpoint is not None
        assert checkpoint.load(place, trial.checkpoint)["path"]
    lost = [events[index]["error"].splitlines()[-1] for index in failures]
    print(f"{strategy}: {len(state.trials)} trials, {len(results)} results, lost: {lost}")
