"""An unchanged training program under a strategy of each kind; its driver is killed half-way, and the sweep resumed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from raysweep.history.results import read
from tests.e2e.sweeps import events_of, wait_for
from tests.ray_project import ROOT, Project
from tests.waiting import PATIENCE_S

PROGRAM = ROOT / "tests" / "programs" / "train.py"
SPACE = "lr: {loguniform: [1e-3, 5e-1]}\nwidth: {choice: [16, 32]}\n"
ITERATIONS, SAMPLES = 6, 4


@pytest.mark.parametrize("strategy", ["asha", "pbt"])
def test_an_unchanged_program_is_killed_and_resumed(strategy: str, local_cluster: Project, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    shutil.copy(PROGRAM, local_cluster.folder / "train.py")
    (local_cluster.folder / "space.yaml").write_text(SPACE)
    program = ["python", "train.py", "--lr", "{lr}", "--width", "{width}", "--epochs", "{max_iterations}"]
    program += ["--output-dir", "{checkpoint}", "--seconds", "0.3", "--trace", str(trace)]
    command = [
        *(sys.executable, "-m", "raysweep.driver.wrap", strategy, "--space", "space.yaml"),
        *("--script", " ".join(program), "--metric", "loss", "--mode", "min", "--max-iterations", str(ITERATIONS)),
        *("--samples", str(SAMPLES), "--name", "program", "--storage", str(tmp_path)),
    ]
    job = subprocess.Popen(
        command, cwd=local_cluster.folder, env=local_cluster.env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    place = tmp_path / "program"
    wait_for(place, "result", 7)
    [driver] = [child for child in psutil.Process(job.pid).children() if child.name() == psutil.Process(job.pid).name()]
    driver.kill()  # the supervisor starts the next one
    log, _ = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == 0, log

    results = [event for event in events_of(place) if event["type"] == "result"]
    for trial in read("program", str(tmp_path)).state.trials.values():
        assert trial.status in ("finished", "stopped"), log
        own = [event for event in results if event["trial"] == trial.id]
        assert [event["iteration"] for event in own] == list(range(1, len(own) + 1))
        assert [event["metrics"]["epoch"] for event in own] == [event["iteration"] for event in own]
    trained = Counter(trace.read_text().splitlines())
    repeated = sum(trained.values()) - len(results)
    print(f"{strategy}: {len(results)} results, {repeated} epochs repeated")
    assert repeated <= 2 * SAMPLES  # one that was killed with the driver, and one that was stopped while it ran
