"""A sweep on the cluster of this machine, in a real Prometheus with the settings for users."""

from __future__ import annotations

from pathlib import Path

from raysweep.storage import open_storage
from tests.e2e.sweeps import add_task, start
from tests.prometheus import HELD_FLAGS, HELD_TASK, check_live, config_of, is_closed, needed, prometheus
from tests.ray_project import Project
from tests.waiting import PATIENCE_S

pytestmark = needed


def test_figures_are_those_of_the_journal_while_it_runs(local_cluster: Project, tmp_path: Path) -> None:
    add_task(local_cluster, "held", HELD_TASK)
    place = open_storage(str(tmp_path / "runs" / "watched"))
    submitted = ("submit", *HELD_FLAGS, "--name", "watched", "--storage", str(tmp_path / "runs"))
    with (
        start(local_cluster, *submitted) as job,
        prometheus(config_of(local_cluster.folder, local_cluster.cluster.dashboard), tmp_path) as running,
    ):
        check_live(running, place, "watched")
        assert is_closed(running)
        log, _ = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == 1, log  # one trial has failed
    assert "as it was told" in log
    kept = local_cluster.run("logs", "watched", "--storage", str(tmp_path / "runs"))
    assert kept.stdout.splitlines()[-1] == "exit code 1"
