"""A killed driver starts again; the same command with --resume auto does it for a killed job. Nothing is repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from raysweep.history.sweep_state import SweepState
from tests.e2e.sweeps import DEADLINE_S, check_resume, events_of, wait_for
from tests.ray_project import Project

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


def supervisor_of(name: str) -> psutil.Process:
    """The process that runs the job's file, of which the driver is the only child."""
    found = [p for p in psutil.process_iter(["cmdline"]) if name in (p.info["cmdline"] or []) and _is_driver(p)]
    [supervisor] = [process for process in found if process.parent() not in found]
    return supervisor


def _is_driver(process: psutil.Process) -> bool:
    words = process.info["cmdline"]
    return os.path.basename(words[0]).startswith("python") and words[1].startswith("jobs/")  # noqa: PTH119


@pytest.mark.parametrize("strategy", ["asha", "pbt", "hyperband"])
def test_a_sweep_whose_driver_is_killed_twice_finishes_by_itself(
    strategy: str, local_cluster: Project, tmp_path: Path
) -> None:
    (local_cluster.folder / "tasks" / "slow.py").write_text(SLOW_TASK)
    name = f"supervised-{strategy}"
    place, before = tmp_path / name, []
    job = submit(local_cluster, strategy, "--storage", str(tmp_path), "--name", name, "--max-iterations", "9")

    for results in (8, 16):
        wait_for(place, "result", results)
        [driver] = supervisor_of(name).children()
        driver.send_signal(signal.SIGKILL)
        psutil.wait_procs([driver], timeout=DEADLINE_S)
        before.append(events_of(place))

    log, _ = job.communicate(timeout=DEADLINE_S)
    assert job.returncode == 0, log
    assert log.count("SIGKILL ended the driver") == 2
    for journal in before:
        check_resume(journal, events_of(place), SAMPLES)


@pytest.mark.parametrize("strategy", ["asha", "tpe", "tpe_asha"])
def test_a_killed_sweep_continues_where_it_was(strategy: str, local_cluster: Project, tmp_path: Path) -> None:
    (local_cluster.folder / "tasks" / "slow.py").write_text(SLOW_TASK)
    name = f"killed-{strategy}"
    place = tmp_path / name
    flags = ("--storage", str(tmp_path), "--name", name, "--max-iterations", "9")

    first = submit(local_cluster, strategy, *flags)
    wait_for(place, "result", 15)
    supervisor_of(name).send_signal(signal.SIGKILL)
    first_log, _ = first.communicate(timeout=DEADLINE_S)
    assert first.returncode != 0, first_log
    before = events_of(place)

    second = submit(local_cluster, strategy, *flags, "--resume", "auto")
    second_log, _ = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 0, second_log
    check_resume(before, events_of(place), SAMPLES)


def test_the_same_name_is_never_silently_mixed_and_a_finished_sweep_can_be_extended(
    local_cluster: Project, tmp_path: Path
) -> None:
    (local_cluster.folder / "tasks" / "slow.py").write_text(SLOW_TASK)
    flags = ("--storage", str(tmp_path), "--name", "again", "--max-iterations", "2")
    for extra, code, message in [
        ((), 0, "8 finished"),
        ((), 2, "exists in"),
        (("--resume", "must", "--samples", "10"), 0, "10 finished"),
        (("--resume", "must", "--seed", "5"), 2, "was begun with seed 0, not 5"),
    ]:
        job = submit(local_cluster, "random_search", *flags, *extra)
        log, _ = job.communicate(timeout=DEADLINE_S)
        # `ray job submit` itself knows only 0 and 1.
        assert (job.returncode == 0) == (code == 0), log
        assert message in log
    state = SweepState(events_of(tmp_path / "again"))
    assert len(state.trials) == 10
    assert all(len(trial.results) == 2 for trial in state.trials.values())
