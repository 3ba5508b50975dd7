"""A killed driver: the same command again, with --resume auto, loses nothing and repeats nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from raysweep import journal
from raysweep.state import SweepState
from raysweep.storage import open_storage
from tests.ray_project import Project

SLOW_TASK = """
from tasks.quadratic import MAX_ITERATIONS, METRIC, MODE, MUTABLE, SPACE, train

SPACE = SPACE | {"delay_s": 0.1}
"""
SAMPLES = 8
DEADLINE_S = 120.0


def submit(project: Project, strategy: str, *flags: str) -> subprocess.Popen[str]:
    """Plain Ray, as the README has it."""
    command = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--working-dir", ".", "--"]
    job = ["python", f"jobs/{strategy}.py", "--task", "slow", "--samples", str(SAMPLES), *flags]
    return subprocess.Popen(
        command + job, cwd=project.folder, env=project.env | project.ray_env,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def events_of(place: Path) -> list[dict[str, Any]]:
    return journal.read(open_storage(str(place))) if place.exists() else []


def kill_driver_at(place: Path, name: str, results: int) -> None:
    """SIGKILL for the process that runs the job's file, when the journal holds so many results."""
    limit = time.monotonic() + DEADLINE_S
    while sum(event["type"] == "result" for event in events_of(place)) < results:
        assert time.monotonic() < limit, "the sweep did not get so far"
        time.sleep(0.02)
    drivers = [p for p in psutil.process_iter(["cmdline"]) if name in (p.info["cmdline"] or []) and _is_driver(p)]
    assert len(drivers) == 1
    drivers[0].send_signal(signal.SIGKILL)


def _is_driver(process: psutil.Process) -> bool:
    words = process.info["cmdline"]
    return os.path.basename(words[0]).startswith("python") and words[1].startswith("jobs/")  # noqa: PTH119


@pytest.mark.parametrize("strategy", ["asha", "tpe", "tpe_asha", "pbt", "hyperband"])
def test_a_killed_sweep_continues_where_it_was(strategy: str, local_cluster: Project, tmp_path: Path) -> None:
    (local_cluster.folder / "tasks" / "slow.py").write_text(SLOW_TASK)
    name = f"killed-{strategy}"
    place = tmp_path / name
    flags = ("--storage", str(tmp_path), "--name", name, "--max-iterations", "9")

    first = submit(local_cluster, strategy, *flags)
    kill_driver_at(place, name, results=15)
    first_log, _ = first.communicate(timeout=DEADLINE_S)
    assert first.returncode != 0, first_log
    before = events_of(place)

    second = submit(local_cluster, strategy, *flags, "--resume", "auto")
    second_log, _ = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 0, second_log
    after = events_of(place)
    assert after[: len(before)] == before
    check_resume(SweepState(before), [e for e in after if e["seq"] > before[-1]["seq"]], SweepState(after))


def check_resume(before: SweepState, added: list[dict[str, Any]], after: SweepState) -> None:
    """Invariants I1 and I2, from the journal alone."""
    assert len(after.trials) == SAMPLES
    assert all(trial.status in ("finished", "stopped") for trial in after.trials.values())
    touched = {event["trial"] for event in added if "trial" in event}
    ended = {trial.id for trial in before.trials.values() if trial.ended}
    assert not ended & touched, "a trial that had ended was touched again"
    for trial in before.unfinished:
        if trial.checkpoint:
            again = [e["iteration"] for e in added if e["type"] == "result" and e["trial"] == trial.id]
            if again:
                assert again[0] == trial.checkpoint.iteration + 1, json.dumps(added[:5])


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
