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
    sys.exit(pathlib.Path(os.environ["said"]).read_text())
if "list" in sys.argv:
    config = {"KubernetesConfig": {"ContainerRuntime": os.environ.get("runtime", "containerd")}}
    names = (here / "profiles").read_text().split() if (here / "profiles").exists() else []
    print(json.dumps({"valid": [{"Name": name, "Config": config} for name in names], "invalid": []}))
if "start" in sys.argv:
    (here / "profiles").write_text(sys.argv[1].removeprefix("--profile="))
if "delete" in sys.argv:
    (here / "profiles").unlink()
if "ssh" in sys.argv:
    (here / "read").write_text(sys.stdin.read())
"""
DOCKER = """#!/bin/sh
case "$1" in
image) [ -z "$absent" ] ;;
save) shift; echo "$@" ;;
esac
"""
OPERATOR = "quay.io/kuberay/operator:v1"
NO_DRIVER = """X Exiting due to DRV_NOT_HEALTHY: Found driver(s) but none were healthy.

*
╭──────────────────────────────────────────────────────────────────────╮
│    * If the above advice does not help, please let us know:          │
╰──────────────────────────────────────────────────────────────────────╯
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in (("minikube", FAKE), ("docker", DOCKER), ("ssh", "")):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(target.manifests, "render", lambda _: [{"image": OPERATOR}])
    monkeypatch.setattr(target, "Kube", lambda *_: None)
    monkeypatch.setattr(raycluster, "install", lambda plan, cluster, kube: replace(cluster, endpoint="http://there"))
    return folder / "calls"


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
        [profile, "profile", "list"],
        [profile, "ssh", "--native-ssh=false"],
        [profile, "delete"],
    ]
    assert "--cni=calico" in said[0][0]
    assert "--gpus=all" not in said[0][0]
    assert {where for _, where in said} == {str(tmp_path / ".raysweep" / "kubernetes" / "kubeconfig")}
    assert said[4][0][3:] == ["--", "sudo", "ctr", "--namespace=k8s.io", "images", "import", "--digests", "-"]
    # In one stream, with the operator's, since this machine has it.
    assert (calls.parent / "read").read_text().split() == ["raysweep:local", "raysweep-store:local", OPERATOR]
    assert records[0].id == cluster.id  # recorded before anything was started
    assert records[-1].endpoint == "http://there"


def test_a_machine_that_stopped_is_started_again_and_never_deleted(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, _ = start(tmp_path)
    monkeypatch.setattr(minikube, "open_cluster", lambda _: SimpleNamespace(answers=lambda: False))
    monkeypatch.setattr(raycluster, "revive", lambda cluster, record: cluster)
    (calls.parent / "profiles").write_text("another")
    assert minikube.Minikube().revive(cluster, lambda _: None) is None  # there is no such profile
    (calls.parent / "profiles").write_text(f"another {cluster.id}")
    assert minikube.Minikube().revive(cluster, lambda _: None) == cluster
    said = [json.loads(line)[0] for line in calls.read_text().splitlines()]
    assert said[-1] == [f"--profile={cluster.id}", "start", "--wait=all"]
    assert not [words for words in said if "delete" in words]


@pytest.mark.parametrize(("runtime", "program"), [("docker", "docker load"), ("crio", "podman load")])
def test_each_container_runtime_has_its_own_program_for_images(
    runtime: str, program: str, tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("runtime", runtime)
    start(tmp_path)
    assert [*json.loads(calls.read_text().splitlines()[-1])[0]][3:] == ["--", "sudo", *program.split()]


def test_an_unknown_container_runtime_is_named(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("runtime", "other")
    with pytest.raises(ClusterError, match="container runtime is other, not one of containerd, crio, docker"):
        start(tmp_path)


def test_images_that_are_not_here_are_named_before_anything_starts(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("absent", "1")
    with pytest.raises(BadInput, match="no image raysweep:local and raysweep-store:local: build them"):
        start(tmp_path)
    assert not calls.exists()


def test_gpus_are_requested(tmp_path: Path, calls: Path) -> None:
    start(tmp_path, Options(gpus=True))
    assert "--gpus=all" in calls.read_text()


def test_minikubes_error_message_is_passed_on(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the box below it, in which minikube asks for an issue."""
    (tmp_path / "said").write_text(NO_DRIVER)
    monkeypatch.setenv("said", str(tmp_path / "said"))
    monkeypatch.setenv("fail", "start")
    with pytest.raises(ClusterError) as caught:
        start(tmp_path)
    assert str(caught.value).splitlines()[0] == f"`minikube start` failed: {NO_DRIVER.splitlines()[0]}"
    assert "please let us know" not in str(caught.value)


def test_without_minikube_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="`minikube` is not installed: see https"):
        start(tmp_path)
