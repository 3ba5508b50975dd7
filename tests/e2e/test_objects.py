"""Objects of a space on Ray: the trials of a driver that follows a killed one still get the very objects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from raysweep.history.results import read
from tests.e2e.sweeps import wait_for
from tests.ray_project import Project
from tests.waiting import PATIENCE_S

TASK = """
import time
from collections import Counter

import numpy as np
from ray import tune

import raysweep


class Adam: ...


def relu(x):
    return max(x, 0)


SPACE = {
    "layers": tune.choice([(64, 64), (128,)]),
    "optimizer": {"make": tune.choice([Adam, dict]), "lr": tune.loguniform(1e-4, 1e-1)},
    "act": tune.choice([relu, None]),
    "schedule": tune.choice([{"kind": "cosine", 1: "a"}, {"kind": "step"}]),
    "size": tune.choice([np.int64(3), np.float32(0.5)]),
    "widths": [tune.choice([8, 16]), tune.choice([32, 64])],
    "betas": (0.9, 0.999),
}
METRIC, MODE, MAX_ITERATIONS, MUTABLE = "loss", "min", 3, ("layers", "optimizer/lr", "act")


def train(config):
    # An object that came back as something else fails the trial, and so the sweep.
    assert type(config["layers"]) is tuple and config["layers"] in SPACE["layers"].categories
    assert config["optimizer"]["make"] in (Adam, dict)
    assert config["act"] in (relu, None)
    assert config["schedule"] in SPACE["schedule"].categories
    assert type(config["size"]) in (np.int64, np.float32)
    assert config["widths"][0] in (8, 16) and config["widths"][1] in (32, 64)
    assert type(config["betas"]) is tuple
    done = raysweep.resume() or 0
    for iteration in raysweep.iterations():
        time.sleep(0.2)
        raysweep.report({"loss": len(config["layers"]) + config["optimizer"]["lr"] / iteration}, state=iteration)
"""


@pytest.mark.parametrize("strategy", ["tpe", "pbt"])
def test_the_objects_of_a_space_outlive_a_killed_driver(strategy: str, local_cluster: Project, tmp_path: Path) -> None:
    (local_cluster.folder / "objects.py").write_text(TASK)
    command = [
        sys.executable,
        f"jobs/{strategy}.py",
        "--task",
        "objects",
        "--storage",
        str(tmp_path),
        "--name",
        "killed",
    ]
    job = subprocess.Popen(
        [*command, "--samples", "6"], cwd=local_cluster.folder, env=local_cluster.env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(tmp_path / "killed", "result", 7)
    [driver] = [child for child in psutil.Process(job.pid).children() if child.name() == psutil.Process(job.pid).name()]
    driver.kill()
    log, _ = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == 0, log
    assert "SIGKILL ended the driver: it is restarted" in log
    found = read("killed", str(tmp_path))
    assert found.state.count("finished") == 6
    if strategy == "pbt":
        assert any(trial.donors for trial in found.state.trials.values())
        return
    check_points(command, local_cluster, tmp_path)


def check_points(command: list[str], project: Project, storage: Path) -> None:
    """The best trial of the sweep is a point of another one, which tries it first."""
    again = subprocess.run(
        [*command[:-1], "again", "--samples", "2", "--points", f"{storage}/killed/best.json"],
        cwd=project.folder, env=project.env, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    best = read("killed", str(storage)).best
    assert best is not None
    assert read("again", str(storage)).state.trials["00000"].config == best["config"]
