"""Training with Lightning, XGBoost, LightGBM, Keras and transformers, as for plain Ray Tune: the driver is killed
half-way, and the sweep goes on.

Each framework runs once, under ASHA or PBT; with FROM_TUNE_FULL=1 under both, and `-s` shows the table's lines.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from raysweep.clusters import local
from raysweep.history import checkpoint
from raysweep.history.results import read
from raysweep.history.sweep_state import SweepState
from raysweep.storage import open_storage
from tests.e2e.sweeps import events_of, wait_for
from tests.from_tune import FULL
from tests.ray_project import Project
from tests.waiting import PATIENCE_S

TASKS = Path(__file__).with_name("frameworks")
MARK = "# For raysweep, instead of the Tuner.\n"
TRIALS = 2  # each begins twice, and to import a framework takes longer than all else
ONCE = [
    ("with_xgboost", "pbt"),
    ("with_lightgbm", "asha"),
    ("with_lightning", "pbt"),
    ("with_keras", "pbt"),
    ("with_transformers", "asha"),
]
ALL = [(task, strategy) for task, _ in ONCE for strategy in ("asha", "pbt")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("task", "strategy"), ALL if FULL else ONCE)
def test_a_sweep_whose_driver_is_killed_half_way(
    local_cluster: Project, tmp_path: Path, task: str, strategy: str
) -> None:
    folder, name = local_cluster.folder, f"{task}-{strategy}"
    place, glue = tmp_path / "runs" / name, (TASKS / f"{task}.py").read_text().split(MARK)[1]
    for file in (f"{task}.py", "epoch_notes.py"):
        shutil.copy(TASKS / file, folder)
    (folder / "hold").touch()
    (folder / "epochs.txt").write_text("")
    few = ("--cpus-per-trial", "0.5") if strategy == "pbt" else ("--concurrency", "2")
    command = [sys.executable, f"jobs/{strategy}.py", "--task", task, "--storage", str(place.parent), "--name", name]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(
            [*command, "--samples", str(TRIALS), *few], cwd=folder, env=environment(local_cluster),
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for(place, "result", 3)
        [driver] = psutil.Process(job.pid).children()
        driver.kill()
        wait_for(place, "start", 2)
        (folder / "hold").unlink()
        code = job.wait(PATIENCE_S)
    finally:
        job.kill()
    assert code == 0, (tmp_path / "log").read_text()

    trials = SweepState(events_of(place)).trials
    assert len(trials) == TRIALS
    assert {trial.status for trial in trials.values()} <= {"finished", "stopped"}
    assert all(checkpoint.verified(open_storage(str(place)), trial) for trial in trials)
    again = repeated(place, folder / "epochs.txt")
    best = read(name, str(place.parent)).best
    print(f"{task} | {strategy} | {len(glue.splitlines())} | {best['metrics']} | {again}")
    assert max(again.values(), default=0) <= 1, "more than one checkpoint interval was done again"


def environment(project: Project) -> dict[str, str]:
    """What a job of the cluster finds in its environment."""
    cluster = project.cluster
    of_job = local.environment(cluster) | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(project.folder)}
    return project.env | project.ray_env | of_job


def repeated(place: Path, notes: Path) -> dict[str, int]:
    """How many epochs each trial began again after the kill: from the time of the second driver's start."""
    _, second = (event["time"] for event in events_of(place) if event["type"] == "start")
    lines = [line.split() for line in notes.read_text().splitlines()]
    before: dict[str, int] = {}
    again: dict[str, int] = {}
    for trial, epoch, when in ((each[0], int(each[1]), float(each[2])) for each in lines):
        if when < second:
            before[trial] = epoch
        elif trial in before:
            again.setdefault(trial, max(before[trial] - epoch + 1, 0))
    return again
