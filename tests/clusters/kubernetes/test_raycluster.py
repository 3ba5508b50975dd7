"""The Ray cluster of a Kubernetes target: what is told when it cannot be reached from this machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from raysweep.clusters.kubernetes import raycluster
from raysweep.clusters.targets import Cluster
from raysweep.errors import ClusterError


def test_a_port_that_is_not_forwarded_has_its_reason_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".raysweep").mkdir()
    monkeypatch.setattr(raycluster, "FORWARD_SECONDS", 0)
    monkeypatch.setattr(raycluster, "REVIVE_SECONDS", 0)
    monkeypatch.setattr(raycluster, "answers", lambda cluster: False)
    monkeypatch.setattr(raycluster.forward, "start", lambda *arguments: arguments[3].write_text("error: no socat\n"))
    cluster = Cluster("kind", "x", "http://127.0.0.1:1", "", "s3://b", "token", settings=str(tmp_path / "settings"))
    with pytest.raises(ClusterError, match=r"http://127.0.0.1:1 does not answer .*: error: no socat\nall of it: "):
        raycluster._reach(cluster, SimpleNamespace(command=["kubectl"]))
