"""The target local: what is told of a head that does not come up, whose own folder goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.clusters import local
from raysweep.clusters.targets import Cluster, Options
from raysweep.errors import ClusterError


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    (tmp_path / ".raysweep").mkdir()
    monkeypatch.chdir(tmp_path)
    return Cluster("local", "x", "http://127.0.0.1:1", "", "runs", "token", temp_dir=str(tmp_path))


def test_what_ray_start_said_is_shown_and_kept(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_command", lambda *_: ["sh", "-c", "echo no GCS; exit 9"])
    with pytest.raises(ClusterError, match=r"`ray start` failed with exit code 9: no GCS\nall of it: "):
        local._ray_start(cluster, Options(), tmp_path)
    assert "no GCS" in (tmp_path / ".raysweep" / "logs" / "ray.log").read_text()


def test_a_dashboard_that_does_not_answer_has_its_log_shown(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "START_SECONDS", 0)
    monkeypatch.setattr(local, "answers", lambda cluster: False)
    logs = tmp_path / "ray" / "session_latest" / "logs"
    logs.mkdir(parents=True)
    (logs / "dashboard.log").write_text("address in use\n")
    with pytest.raises(ClusterError, match=r"does not answer within 0 s: address in use\nall of it: "):
        local._wait_for_dashboard(cluster)
