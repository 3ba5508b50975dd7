"""The target kind by fakes of its programs: what is told of a node that does not come up."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from raysweep.clusters.kubernetes import kind
from raysweep.errors import ClusterError

KIND = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/calls"
case "$1" in
create) echo "ERROR: failed to init node with kubeadm" >&2; exit 1 ;;
get) echo x-control-plane ;;
esac
"""
DOCKER = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/calls"
echo "I1127 05:00:00.1 1 server.go:1] beginning"
echo "E1127 05:00:00.2 1 run.go:74] command failed: unknown flag --x"
echo "kubelet.service: Main process exited"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, script in (("kind", KIND), ("docker", DOCKER)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".raysweep").mkdir()
    return tmp_path / "calls"


def test_a_node_that_does_not_come_up_is_kept_until_its_kubelet_was_asked(tmp_path: Path, calls: Path) -> None:
    target = kind.Kind()
    with pytest.raises(ClusterError) as caught, target.kubelet_asked("x", "kubeconfig"):
        target.create("x", "kubeconfig", SimpleNamespace(overlay=tmp_path))
    logs = tmp_path / ".raysweep" / "logs"
    assert str(caught.value).splitlines() == [
        "`kind create cluster` failed: ERROR: failed to init node with kubeadm",
        f"all of it: {logs / 'kind.log'}",
        "its kubelet says: E1127 05:00:00.2 1 run.go:74] command failed: unknown flag --x",
        f"all of it: {logs / 'kubelet.log'}",
    ]
    assert "Main process exited" in (logs / "kubelet.log").read_text()
    assert "--retain" in calls.read_text().splitlines()[0]
    assert "exec x-control-plane journalctl --unit=kubelet" in calls.read_text()


def test_without_a_node_its_own_reason_is_left(tmp_path: Path, calls: Path) -> None:
    (tmp_path / "kind").write_text("#!/bin/sh\necho no docker here >&2; exit 1\n")
    target = kind.Kind()
    with pytest.raises(ClusterError) as caught, target.kubelet_asked("x", "kubeconfig"):
        target.create("x", "kubeconfig", SimpleNamespace(overlay=tmp_path))
    assert str(caught.value).startswith("`kind create cluster` failed: no docker here\nall of it: ")
    assert "kubelet" not in str(caught.value)
