"""Trials of two workers on a cluster of three nodes: synchronous, placed together or not at all, lost as a whole.

The head has two CPUs, the others have one: so one trial is on one node, another one on two.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from raysweep.clusters.shared import processes
from raysweep.history import journal
from raysweep.history.checkpoint import load
from raysweep.history.sweep_state import SweepState
from raysweep.storage import open_storage
from tests.pair_task import MAX_ITERATIONS
from tests.ray_project import ROOT, clean_environment, free_ports
from tests.waiting import PATIENCE_S, until

NODES = {"head": 2, "small": 1, "other": 1}  # CPUs
SAMPLES = 4
MOST = MAX_ITERATIONS - 1  # iterations of a trial that will still run a moment later
SWEEP = (
    f"SAMPLES = {SAMPLES}"
    + """
import sys

import raysweep
from tests import pair_task

strategy, folder = sys.argv[1:]
raysweep.run(
    strategy, pair_task.train, pair_task.SPACE | {"notes": folder}, metric="loss", mode="min", samples=SAMPLES,
    max_iterations=pair_task.MAX_ITERATIONS, mutable=("lr",), workers_per_trial=2, storage=f"{folder}/runs", name="s",
)
"""
)


@dataclass
class Nodes:
    """A cluster of several nodes on this machine.

    Attributes:
        env: what joins it.
        marks: name -> what its processes have in their environment.
    """

    env: dict[str, str]
    marks: dict[str, str]

    def kill(self, name: str) -> None:
        """Kills all processes of a node at once."""
        for process in processes.marked(self.marks[name]):
            process.kill()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder, temporary = tmp_path_factory.mktemp("nodes"), tempfile.mkdtemp(prefix="raysweep-", dir="/tmp")
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(uuid.uuid4().hex * 2)
    env = clean_environment(folder, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(folder / "token"))
    env |= {"RAY_USAGE_STATS_ENABLED": "0", "SPT_NOENV": "1", "PYTHONPATH": str(ROOT)}
    (port,) = free_ports(1)
    head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={temporary}"]
    marks, address = {name: uuid.uuid4().hex for name in NODES}, ""
    try:
        for name, cpus in NODES.items():
            role = [f"--address={address}"] if address else head
            ray = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--num-cpus={cpus}"]
            done = subprocess.run(
                [*ray, *role, "--object-store-memory=100000000"], env=env | {"RAYSWEEP_CLUSTER_ID": marks[name]},
                capture_output=True, text=True, timeout=PATIENCE_S, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            address = address or re.search(rf"[\d.]+:{port}", done.stdout)[0]
        yield Nodes(env | {"RAY_ADDRESS": address}, marks)
    finally:
        for mark in marks.values():
            processes.end(mark)
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass
class Sweep:
    """A sweep that runs, and what its trials note: trial, iteration, rank, process, node, port."""

    folder: Path
    job: subprocess.Popen[str]

    @property
    def steps(self) -> list[list[str]]:
        path = self.folder / "steps"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def events(self) -> list[dict]:
        return journal.read(open_storage(str(self.folder / "runs" / "s")))

    def running(self, nodes: int) -> str:
        """A trial that is on so many nodes, and in the middle of its iterations."""

        def find() -> str | None:
            events = self.events if (self.folder / "runs" / "s").exists() else []
            for trial in SweepState(events).trials.values():
                steps = [step for step in self.steps if step[0] == trial.id]
                of_this_run = {step[4] for step in steps if step[5] == steps[-1][5]}
                if trial.last and not trial.ended and len(of_this_run) == nodes and 1 < trial.last.iteration < MOST:
                    return trial.id
            return None

        return happens(find, self.job)

    def finish(self) -> SweepState:
        output, _ = self.job.communicate(timeout=PATIENCE_S)
        assert self.job.returncode == 0, output
        return SweepState(self.events)


def happens(find: Callable[[], str | None], job: subprocess.Popen[str]) -> str:
    """What `find` finds while the job runs."""

    def found() -> str | None:
        assert job.poll() is None, job.communicate()[0]
        return find()

    value = until(found)
    assert value
    return value


@pytest.fixture
def sweep(nodes: Nodes, tmp_path: Path) -> Iterator[Callable[[str], Sweep]]:
    """Begins a sweep of this strategy in the background."""
    jobs = []

    def start(strategy: str) -> Sweep:
        script = tmp_path / "pair.py"
        script.write_text(SWEEP)
        jobs.append(subprocess.Popen(
            [sys.executable, str(script), strategy, str(tmp_path)], cwd=tmp_path, env=nodes.env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ))  # fmt: skip
        return Sweep(tmp_path, jobs[-1])

    yield start
    for job in jobs:
        job.kill()
        job.communicate()


def check(sweep: Sweep, state: SweepState, faults: int) -> None:
    """All trials ended well; workers were always together; a fault cost at most one iteration of the trial it met."""
    assert len(state.trials) == SAMPLES
    assert {trial.status for trial in state.trials.values()} <= {"finished", "stopped"}
    results = [result for trial in state.trials.values() for result in trial.results.values()]
    assert {result.metrics["apart"] for result in results} == {0.0}
    assert {result.metrics["half"] for result in results} == {0}
    place, ranks = open_storage(str(sweep.folder / "runs" / "s")), defaultdict(set)
    for trial, iteration, rank, *_, port in sweep.steps:
        ranks[trial, iteration, port].add(rank)
    assert sum(each != {"0", "1"} for each in ranks.values()) <= faults, "a worker went on alone"
    for trial in state.trials.values():
        if not trial.donors:
            assert trial.checkpoint is not None
            assert load(place, trial.checkpoint)["path"] == list(range(1, trial.checkpoint.iteration + 1))
            again = [step for step in sweep.steps if step[0] == trial.id and step[2] == "0"]
            assert len(again) - len({step[1] for step in again}) <= faults


def test_a_killed_worker_costs_its_trial_at_most_one_iteration(sweep: Callable[[str], Sweep]) -> None:
    asha = sweep("asha")
    trial = asha.running(nodes=1)
    victim = next(step for step in reversed(asha.steps) if step[0] == trial and step[2] == "1")
    os.kill(int(victim[3]), signal.SIGKILL)
    state = asha.finish()
    check(asha, state, faults=1)
    (failure,) = [event for event in asha.events if event["type"] == "failure"]
    assert (failure["trial"], failure["kind"]) == (trial, "lost")
    assert failure["error"].startswith("worker 1: the trial's process was ended from outside")
    assert not psutil.pid_exists(int(victim[3]))
    ports = list(dict.fromkeys(step[5] for step in asha.steps if step[0] == trial))
    assert len(ports) == 2, "the trial met its other worker again where it had lost it"


def test_when_a_node_is_gone_one_trial_at_a_time_runs_on_what_is_left(
    sweep: Callable[[str], Sweep], nodes: Nodes
) -> None:
    """Room for three workers is room for one trial; that of the node that is lost waits for its turn."""
    pbt = sweep("pbt")
    pbt.running(nodes=2)
    nodes.kill("small")
    before = len(pbt.events)
    state = pbt.finish()
    check(pbt, state, faults=1)
    (lost,) = [event for event in pbt.events if event["type"] == "failure"]
    assert lost["kind"] in ("lost", "node")
    later = [event for event in pbt.events[before:] if event["seq"] > lost["seq"] and event["type"] == "result"]
    assert {event["metrics"]["placed"] for event in later[2:]} == {1}, "but for what was under way"
