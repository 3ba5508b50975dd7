"""The target minikube by a recorded fake of its program: which commands, in which order, with whose kubeconfig."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from raysweep.clusters.kubernetes import minikube, raycluster, target
from raysweep.clusters.targets import Cluster, Options
from raysweep.errors import BadInput, ClusterError
from tests.s3 import free_ports

ROOT = Path(__file__).parents[3]
FAKE = """#!/usr/bin/env python3
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ["KUBECONFIG"]]) + "\\n")
if "fail" in os.environ and os.environ["fail"] in sys.argv:
    sys.exit("no driver works")
if "list" in sys.argv:
    print(json.dumps({"valid": [{"Name": name} for name in os.environ.get("profiles", "").split()], "invalid": []}))
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "minikube"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(target, "Kube", lambda *_: None)
    monkeypatch.setattr(raycluster, "install", lambda plan, cluster, kube: replace(cluster, endpoint="http://there"))
    return program.parent / "calls"


def start(folder: Path, options: Options | None = None) -> tuple[Cluster, list[Cluster]]:
    records: list[Cluster] = []
    dashboard, s3 = free_ports(2)
    settings = replace(options or Options(), dashboard_port=dashboard, s3_port=s3)
    return minikube.Minikube().start(ROOT, folder / ".raysweep" / "token", settings, records.append), records


def test_it_starts_loads_and_deletes_a_profile_of_its_own(tmp_path: Path, calls: Path) -> None:
    cluster, records = start(tmp_path)
    minikube.Minikube().stop(cluster)
    said = [json.loads(line) for line in calls.read_text().splitlines()]
    profile = f"--profile={cluster.id}"
    assert [words[:3] for words, _ in said] == [
        [profile, "start", "--cpus=max"],
        [profile, "addons", "enable"],
        [profile, "addons", "enable"],
        [profile, "image", "load"],
        [profile, "image", "load"],
        [profile, "delete"],
    ]
    assert "--cni=calico" in said[0][0]
    assert "--gpus=all" not in said[0][0]
    assert {where for _, where in said} == {str(tmp_path / ".raysweep" / "kubernetes" / "kubeconfig")}
    assert records[0].id == cluster.id  # recorded before anything was started
    assert records[-1].endpoint == "http://there"


def test_a_machine_that_stopped_is_started_again_and_never_deleted(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, _ = start(tmp_path)
    monkeypatch.setattr(minikube, "open_cluster", lambda _: SimpleNamespace(answers=lambda: False))
    monkeypatch.setattr(raycluster, "revive", lambda cluster, record: cluster)
    assert minikube.Minikube().revive(cluster, lambda _: None) is None  # there is no such profile
    monkeypatch.setenv("profiles", cluster.id)
    assert minikube.Minikube().revive(cluster, lambda _: None) == cluster
    said = [json.loads(line)[0] for line in calls.read_text().splitlines()]
    assert said[-1] == [f"--profile={cluster.id}", "start", "--wait=all"]
    assert not [words for words in said if "delete" in words]


def test_gpus_are_requested(tmp_path: Path, calls: Path) -> None:
    start(tmp_path, Options(gpus=True))
    assert "--gpus=all" in calls.read_text()


def test_minikubes_error_message_is_passed_on(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("fail", "start")
    with pytest.raises(ClusterError, match="`minikube start` failed: no driver works"):
        start(tmp_path)


def test_without_minikube_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="`minikube` is not installed: see https"):
        start(tmp_path)
