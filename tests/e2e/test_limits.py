"""Trials that hang, crawl or fail: each ends as its flag says, and the rest of the sweep finishes."""

from __future__ import annotations

import json
from pathlib import Path

from raysweep.history.sweep_state import SweepState
from tests.e2e.sweeps import add_task, events_of, submit
from tests.ray_project import Project
from tests.waiting import PATIENCE_S

TIMEOUT_S = 10.0  # much more than 30 quick iterations take on a busy machine

# PyDLL, unlike CDLL, keeps the interpreter's lock during the call: no thread and no signal handler of Python runs.
LIMITED_TASK = """
import ctypes
import time
from pathlib import Path

import raysweep
from ray import tune

SPACE = {{"x": tune.uniform(0.0, 1.0), "kind": tune.choice(["quick", "hangs once", "crawls"])}}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 30
HUNG = Path({folder!r}) / "hung"


def train(config):
    for iteration in raysweep.iterations():
        if config["kind"] == "hangs once" and iteration == 3 and not HUNG.exists():
            HUNG.touch()
            ctypes.PyDLL(None).sleep(3600)
        time.sleep(0.8 if config["kind"] == "crawls" else 0)
        raysweep.report({{"loss": config["x"]}}, state=iteration)
"""

FAILING_TASK = """
from pathlib import Path

import raysweep
from ray import tune

SPACE = {{"x": tune.uniform(0.0, 1.0), "failures": tune.choice([0, 1, 2])}}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 4


def train(config):
    starts = Path({folder!r}) / f"starts-{{config['failures']}}"
    with starts.open("a") as file:
        file.write(".")
    for iteration in raysweep.iterations():
        if iteration == 3 and starts.stat().st_size <= config["failures"]:
            raise ValueError(f"the data is upside down at start {{starts.stat().st_size}}")
        raysweep.report({{"loss": config["x"]}}, state=iteration)
"""


RETURNING_TASK = """
import os
import signal

import raysweep
from ray import tune

SPACE = {"x": tune.uniform(0.0, 1.0)}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 5


def train(config):
    if raysweep.resume():
        return
    for iteration in (1, 2):
        raysweep.report({"loss": config["x"] + 1 / iteration}, state=iteration)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def iterations_of(events: list[dict], trial: str) -> list[int]:
    return [event["iteration"] for event in events if event["type"] == "result" and event["trial"] == trial]


def write_points(folder: Path, key: str, values: list) -> str:
    points = [{"x": number / 10, key: value} for number, value in enumerate(values, start=1)]
    (folder / "points.json").write_text(json.dumps(points))
    return str(folder / "points.json")


def test_trial_timeout_ends_what_hangs_in_c_and_what_crawls(local_cluster: Project, tmp_path: Path) -> None:
    add_task(local_cluster, "limited", LIMITED_TASK.format(folder=str(tmp_path)))
    points = write_points(tmp_path, "kind", ["hangs once", "quick", "quick", "crawls"])
    done = submit(
        local_cluster, "random_search", "--task", "limited", "--storage", str(tmp_path), "--name", "limited",
        "--samples", "4", "--points", points, "--trial-timeout", str(TIMEOUT_S), "--max-failures", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    events = events_of(tmp_path / "limited")
    trials = SweepState(events).trials
    assert [trial.status for trial in trials.values()] == ["finished", "finished", "finished", "stopped"]

    (failure,) = [event for event in events if event["type"] == "failure"]
    assert failure["trial"] == "00000"
    began = next(e["time"] for e in events if e["type"] == "result" and e["trial"] == "00000")
    assert TIMEOUT_S < failure["time"] - began < TIMEOUT_S + PATIENCE_S
    assert iterations_of(events, "00000") == list(range(1, 31)), "it goes on from its last checkpoint"
    *before, last = [
        event["metrics"]["time_total_s"] for event in events if event["type"] == "result" and event["trial"] == "00003"
    ]
    assert max(before) < TIMEOUT_S <= last, "the first result after its time is its last one"


def test_failures_beyond_what_is_allowed_fail_the_sweep_with_the_first_traceback(
    local_cluster: Project, tmp_path: Path
) -> None:
    add_task(local_cluster, "failing", FAILING_TASK.format(folder=str(tmp_path)))
    points = write_points(tmp_path, "failures", [1, 2, 0])
    done = submit(
        local_cluster, "random_search", "--task", "failing", "--storage", str(tmp_path), "--name", "failing",
        "--samples", "3", "--points", points, "--max-failures", "1",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    events = events_of(tmp_path / "failing")
    trials = SweepState(events).trials
    assert {name: (trial.status, len(trial.failures)) for name, trial in trials.items()} == {
        "00000": ("finished", 1),  # what was allowed
        "00001": ("failed", 2),
        "00002": ("finished", 0),
    }
    assert iterations_of(events, "00000") == [1, 2, 3, 4]
    assert "trials: 2 finished, 1 failed" in done.stdout
    told = done.stdout.partition("error: 1 trials failed; the first, trial 00001:")[2]
    assert "in train" in told
    assert "ValueError: the data is upside down at start 1" in told
    assert "at start 2" not in told


def test_a_trial_that_has_nothing_left_to_do_after_a_restart_is_finished(
    local_cluster: Project, tmp_path: Path
) -> None:
    """Its process died between its last report and its return: what it had reported is its result."""
    add_task(local_cluster, "returning", RETURNING_TASK)
    done = submit(
        local_cluster, "tpe", "--task", "returning", "--storage", str(tmp_path), "--name", "returning", "--samples", "3"
    )
    assert done.returncode == 0, done.stdout
    events = events_of(tmp_path / "returning")
    trials = SweepState(events).trials
    assert {trial.status for trial in trials.values()} == {"finished"}
    assert [event["kind"] for event in events if event["type"] == "failure"] == ["lost"] * 3
    for trial in trials.values():
        assert iterations_of(events, trial.id) == [1, 2]
        assert trial.last is not None
        assert trial.last.metrics["loss"] == trial.config["x"] + 0.5
    best = json.loads((tmp_path / "returning" / "best.json").read_text())
    assert best["loss"] == min(trial.config["x"] for trial in trials.values()) + 0.5
