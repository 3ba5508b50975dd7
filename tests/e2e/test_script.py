"""An unchanged training program by `raysweep wrap`; the driver is killed half-way, and the sweep goes on."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import psutil
import pytest

from raysweep.history.results import read
from tests.e2e.sweeps import events_of, wait_for
from tests.ray_project import ROOT, Project, make_project
from tests.waiting import PATIENCE_S

PROGRAM = ROOT / "tests" / "programs" / "train.py"
SPACE = "lr: {loguniform: [1e-3, 5e-1]}\nwidth: {choice: [16, 32]}\n"
ITERATIONS, SAMPLES = 6, 4


def driver_of(storage: Path) -> psutil.Process:
    """The driver of the one sweep in a storage: what its supervisor, which has the same command line, has forked."""
    lines = {each.pid: each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])}
    asked = {pid: words for pid, words in lines.items() if "raysweep.driver.wrap" in words and str(storage) in words}
    jobs = {pid for pid, words in asked.items() if "raysweep.submit.log_to_storage" not in words}
    [driver] = [each for each in map(psutil.Process, jobs) if each.ppid() in jobs]
    return driver


@pytest.mark.parametrize("strategy", ["asha", "pbt"])
def test_an_unchanged_program_is_killed_and_resumed(
    strategy: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """ASHA here, where there is no cluster, and PBT as a job of one."""
    project: Project = (
        request.getfixturevalue("local_cluster") if strategy == "pbt" else make_project(tmp_path / "here")
    )
    trace = tmp_path / "trace"
    shutil.copy(PROGRAM, project.folder / "train.py")
    (project.folder / "space.yaml").write_text(SPACE)
    program = ["python", "train.py", "--lr", "{lr}", "--width", "{width}", "--epochs", "{max_iterations}"]
    program += ["--output-dir", "{checkpoint}", "--seconds", "0.3", "--trace", str(trace)]
    flags = ["--strategy", strategy, "--space", "space.yaml", "--name", "program", "--storage", str(tmp_path)]
    flags += ["--metric", "loss", "--mode", "min", "--max-iterations", str(ITERATIONS), "--samples", str(SAMPLES)]
    job = subprocess.Popen(
        project.command("wrap", *flags, "--", *program), cwd=project.folder, env=project.env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    place = tmp_path / "program"
    wait_for(place, "result", 7)
    driver_of(tmp_path).kill()  # the supervisor starts the next one
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
