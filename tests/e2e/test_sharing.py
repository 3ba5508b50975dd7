"""Two sweeps on one cluster: each has its share of the places, and one that waits says for whom."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from raysweep.history.sweep_state import SweepState
from tests.e2e.sweeps import add_paced_task, events_of, set_pace, start, wait_for
from tests.ray_project import Project
from tests.waiting import PATIENCE_S


def submitted(project: Project, name: str, samples: int, storage: Path) -> subprocess.Popen[str]:
    return start(
        project, "submit", "random_search", "--task", "paced", "--name", name, "--samples", str(samples),
        "--storage", str(storage),
    )  # fmt: skip


def test_a_second_sweep_gets_its_share_while_the_first_runs(local_cluster: Project, tmp_path: Path) -> None:
    add_paced_task(local_cluster, tmp_path / "pace", 0.25)
    first = submitted(local_cluster, "first", 24, tmp_path)
    wait_for(tmp_path / "first", "result", 6)
    set_pace(tmp_path / "pace", 2.0)  # the first one must not end before the second is there
    second = submitted(local_cluster, "second", 3, tmp_path)
    wait_for(tmp_path / "second", "start", 1)
    set_pace(tmp_path / "pace", 0.25)
    output, _ = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, output
    then = SweepState(events_of(tmp_path / "first"))
    assert then.count("finished") < 24, "the second sweep got no place before the first had ended"
    set_pace(tmp_path / "pace", 0)
    output, _ = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0, output
    now = SweepState(events_of(tmp_path / "first"))
    assert now.count("finished") == 24
    assert not any(trial.failures for trial in now.trials.values())


def test_a_sweep_that_waits_says_for_whom(local_cluster: Project, tmp_path: Path) -> None:
    add_paced_task(local_cluster, tmp_path / "pace", 3600)  # until the other one has said what it waits for
    holds = submitted(local_cluster, "holds", 2, tmp_path)
    wait_for(tmp_path / "holds", "suggest", 2)
    waits = submitted(local_cluster, "waits", 1, tmp_path)
    assert waits.stdout is not None
    said, limit = "", time.monotonic() + PATIENCE_S
    while "waiting for a place" not in said:
        said = waits.stdout.readline()
        assert time.monotonic() < limit
        assert waits.poll() is None or said, "it has ended"
    set_pace(tmp_path / "pace", 0)
    assert "sweep `holds` has 2" in said
    for each in (holds, waits):
        output, _ = each.communicate(timeout=PATIENCE_S)
        assert each.returncode == 0, output
