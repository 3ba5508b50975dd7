"""A sweep is never silently mixed with another one of its name. What dies in it is in tests/chaos."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from raysweep.history.sweep_state import SweepState
from tests.e2e.sweeps import events_of
from tests.ray_project import Project
from tests.waiting import PATIENCE_S

SLOW_TASK = """
from tasks.quadratic import MAX_ITERATIONS, METRIC, MODE, MUTABLE, SPACE, train

SPACE = SPACE | {"delay_s": 0.1}
"""
SAMPLES = 8


def submit(project: Project, strategy: str, *flags: str) -> subprocess.Popen[str]:
    """Plain Ray, as the README has it."""
    command = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--working-dir", ".", "--"]
    job = ["python", f"jobs/{strategy}.py", "--task", "slow", "--samples", str(SAMPLES), *flags]
    return subprocess.Popen(
        command + job, cwd=project.folder, env=project.env | project.ray_env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_the_same_name_is_never_silently_mixed_and_a_finished_sweep_can_be_extended(
    local_cluster: Project, tmp_path: Path
) -> None:
    (local_cluster.folder / "tasks" / "slow.py").write_text(SLOW_TASK)
    flags = ("--storage", str(tmp_path), "--name", "again", "--max-iterations", "2")
    for extra, code, message in [
        ((), 0, "8 finished"),
        ((), 2, "exists in"),
        (("--resume", "must", "--samples", "10"), 0, "10 finished"),
        (("--resume", "must", "--seed", "5"), 2, "was started with seed 0, not 5"),
    ]:
        job = submit(local_cluster, "random_search", *flags, *extra)
        log, _ = job.communicate(timeout=PATIENCE_S)
        # `ray job submit` itself knows only 0 and 1.
        assert (job.returncode == 0) == (code == 0), log
        assert message in log
    state = SweepState(events_of(tmp_path / "again"))
    assert len(state.trials) == 10
    assert all(len(trial.results) == 2 for trial in state.trials.values())
