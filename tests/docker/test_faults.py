"""What dies under a sweep: a worker's container, the store, the head. Nothing that was reported is lost.

Each fault comes when the journal has so many results, never after a time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raysweep import env
from raysweep.history import checkpoint, resubmit_ticket
from raysweep.history.sweep_state import SweepState
from raysweep.storage import Storage, open_storage
from tests.docker.conftest import DockerProject, docker, events_of, log_of, state_of, wait_for_results
from tests.waiting import until

SAMPLES = 8
STORE_OUTAGE_S = 60.0
KEY = "hush-5551-hush"
# Neither its module nor a trial of it can do without the variable.
KEYED_TASK = """
import os

from tasks import slow
from tasks.slow import MAX_ITERATIONS, METRIC, MODE, SPACE

assert os.environ["SPY_KEY"]


def train(config):
    os.environ["SPY_KEY"]
    slow.train(config)
"""


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
    first = saved.iteration + 1 if saved else 1
    for event in after:
        if event.get("trial") == trial and event["type"] == "exploit":
            first = event["checkpoint"]["iteration"] + 1  # it goes on from its donor's
        if event.get("trial") == trial and event["type"] == "result":
            assert event["iteration"] == first
            return
    raise AssertionError(f"trial {trial} did not go on")


def tickets_of(project: DockerProject) -> list[resubmit_ticket.Ticket]:
    return resubmit_ticket.read(open_storage(project.execute("resubmitter", "printenv", env.RAYSWEEP_JOBS)))


def wait_until_no_job_is_left(project: DockerProject) -> None:
    """Returns when no ticket is there of a job that would be brought back, and all jobs ended well."""
    until(lambda: not tickets_of(project), lambda: tickets_of(project))
    rows = [row.split() for row in project.run("status").stdout.splitlines()[1:]]
    assert {row[1] for row in rows} <= {"SUCCEEDED", "RUNNING"}, rows  # one is about to end


def victim_of(project: DockerProject, place: Storage) -> str:
    """A worker that has a trial running now."""
    container = until(lambda: project.busy_worker(place), "no trial runs on a worker")
    assert container
    return container["Id"]


def restart(project: DockerProject, service: str) -> None:
    """Starts what was killed, and waits until all is healthy."""
    docker("start", *(each["Id"] for each in project.containers(service)))
    until(lambda: project.healthy, lambda: docker("ps", "--all"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("strategy", ["pbt"])  # the others: tests/chaos, node-killed
def test_a_killed_worker_costs_at_most_one_epoch(strategy: str, docker_cluster: DockerProject) -> None:
    name = f"worker-{strategy}"
    place = docker_cluster.sweep(name)
    job = docker_cluster.submit(strategy, "--samples", str(SAMPLES), "--name", name)
    wait_for_results(place, 10)
    docker("kill", victim_of(docker_cluster, place))  # after which the engine does not restart it
    try:
        log = log_of(job)
    finally:
        restart(docker_cluster, "worker")
    assert job.returncode == 0, log
    check_nothing_lost(place)
    failures = [event for event in events_of(place) if event["type"] == "failure"]
    assert failures, "the worker died and no trial noticed"
    print(f"{strategy}: {len(state_of(place).trials)} trials, {len(failures)} lost their worker and went on")


@pytest.mark.timeout(600)
def test_a_store_that_is_away_for_a_minute_costs_nothing(docker_cluster: DockerProject) -> None:
    place = docker_cluster.sweep("store-away")
    job = docker_cluster.submit("asha", "--samples", str(SAMPLES), "--name", "store-away")
    wait_for_results(place, 10)
    try:
        docker("stop", docker_cluster.containers("store")[0]["Id"])
        time.sleep(STORE_OUTAGE_S)
    finally:
        restart(docker_cluster, "store")
    log = log_of(job)
    assert job.returncode == 0, log
    check_nothing_lost(place)
    assert not [event for event in events_of(place) if event["type"] == "failure"], "an outage failed a trial"


@pytest.mark.timeout(600)
def test_a_killed_head_comes_back_and_its_sweeps_go_on_followed_or_not(docker_cluster: DockerProject) -> None:
    """One by `raysweep submit`, which follows its next life, with a secret; one by plain Ray, and nobody watches."""
    place, alone = docker_cluster.sweep("head-killed"), docker_cluster.sweep("alone")
    # There is room for two trials of each, so neither has to wait for the other one's end.
    flags = ("--samples", str(SAMPLES), "--cpus-per-trial", "0.4", "--concurrency", "2", "--max-iterations", "20")
    (docker_cluster.folder / "tasks" / "keyed.py").write_text(KEYED_TASK)
    keyed = ("--task", "keyed", "--name", "head-killed", "--env", "SPY_KEY")
    follower = subprocess.Popen(
        docker_cluster.command("submit", "tpe_asha", *keyed, *flags),
        cwd=docker_cluster.folder, env=docker_cluster.env | {"SPY_KEY": KEY},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    left = docker_cluster.submit("random_search", "--name", "alone", *flags, detached=True)
    said = log_of(left)
    assert left.returncode == 0, said
    lost = re.search(r"raysubmit_\w+", said)[0]
    wait_for_results(place, 10)
    wait_for_results(alone, 1)
    before, before_alone = events_of(place), events_of(alone)
    assert len(state_of(alone).trials) < SAMPLES, "the sweep that nobody follows was about to end by itself"
    tickets = [ticket for ticket in tickets_of(docker_cluster) if ticket.metadata.get("name") == "head-killed"]
    assert (len(tickets), KEY in repr(tickets)) == (1, False), tickets
    head = docker_cluster.containers("head")[0]
    os.kill(head["State"]["Pid"], signal.SIGKILL)  # not `docker kill`, after which the engine restarts nothing
    log = log_of(follower)
    assert follower.returncode == 0, log
    assert "waiting until the cluster submits it again" in log
    assert KEY not in log
    kept = docker_cluster.run("logs", "head-killed", "--storage", docker_cluster.cluster.storage).stdout
    assert kept.count("sweep head-killed: tpe_asha on keyed") == 2, kept  # of both lives, in one log
    assert (kept.endswith("\nexit code 0\n"), KEY in kept) == (True, False), kept
    wait_until_no_job_is_left(docker_cluster)
    lives = [row.split()[0] for row in docker_cluster.run("status").stdout.splitlines()[1:]]
    assert [job for job in lives if job.startswith("raysubmit_")] == [f"{lost}-life2"], lives
    for sweep, seen in ((place, before), (alone, before_alone)):
        after = events_of(sweep)
        assert after[: len(seen)] == seen
        ended = {trial.id for trial in SweepState(seen).trials.values() if trial.ended}
        assert not ended & {event.get("trial") for event in after[len(seen) :]}, "an ended trial was touched again"
        check_nothing_lost(sweep)


@pytest.mark.timeout(600)
def test_results_survive_the_cluster_and_compose_may_be_dockers_plugin(docker_cluster: DockerProject) -> None:
    """The last of this folder's tests on the cluster: down, and up again with the plugin instead of the program."""
    first = docker_cluster.cluster
    before = docker_cluster.run("results", "head-killed")
    assert (before.returncode, "best loss" in before.stdout) == (0, True), before.stdout
    down = docker_cluster.run("cluster", "down")
    assert (down.returncode, "5 containers ended" in down.stdout) == (0, True), down.stdout
    plugins = Path(docker_cluster.env["HOME"]) / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(Path(sys.executable).with_name("docker-compose"))
    up = docker_cluster.up("--workers", "2", "--num-cpus", "1", PATH="/usr/bin:/bin:/usr/sbin:/sbin")
    assert up.returncode == 0, up.stdout
    assert docker_cluster.cluster.id == first.id
    assert docker_cluster.run("results", "head-killed").stdout == before.stdout
