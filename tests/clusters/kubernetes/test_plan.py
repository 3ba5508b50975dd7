"""The options of a Kubernetes target are checked before anything starts."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from raysweep import env
from raysweep.clusters.kubernetes import manifests, plan
from raysweep.clusters.targets import Options
from tests.s3 import free_ports

ROOT = Path(__file__).parents[3]
KIND = ROOT / "k8s" / "overlays" / "kind"


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        problems = plan.check(ROOT, tmp_path, Options(workers=0, num_cpus=-1, dashboard_port=port, s3_port=80))
    assert [problem.split("`")[1].split()[0] for problem in problems] == [
        "--workers",
        "--num-cpus",
        "--dashboard-port",
        "--s3-port",
        "--overlay",
    ]
    assert "aws, gpu, kind, minikube, rayjob" in problems[-1]


def test_valid_options_are_no_problem() -> None:
    dashboard, s3 = free_ports(2)
    assert plan.check(ROOT, KIND, Options(workers=1, dashboard_port=dashboard, s3_port=s3)) == []


def test_a_folder_is_refused_as_storage_of_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    dashboard, s3 = free_ports(2)
    monkeypatch.setenv("RAYSWEEP_STORAGE", "runs")
    [problem] = plan.check(ROOT, KIND, Options(dashboard_port=dashboard, s3_port=s3))
    assert problem.startswith("`--storage runs`: a folder is lost with the pod")
    assert plan.folder_as_storage("s3://bucket/prefix") == plan.folder_as_storage(None) == []


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8333", "http://localhost:9000", "http://[::1]:9000"])
def test_pods_do_not_reach_a_store_on_this_machines_own_addresses(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dashboard, s3 = free_ports(2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    [problem] = plan.check(ROOT, KIND, Options(dashboard_port=dashboard, s3_port=s3))
    assert problem.startswith(f"`AWS_ENDPOINT_URL {endpoint}`: pods cannot reach")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.storage:9000")
    assert plan.check(ROOT, KIND, Options(dashboard_port=dashboard, s3_port=s3)) == []


def test_a_new_largest_number_of_workers_is_applied_and_published_to_drivers(tmp_path: Path) -> None:
    manifests.write(tmp_path, KIND, manifests.Additions())
    for workers in (5, 7):
        objects = plan.resize(tmp_path, workers)
    cluster = manifests.find(objects, "RayCluster")
    assert cluster
    group = cluster["spec"]["workerGroupSpecs"][0]
    assert [group[key] for key in ("minReplicas", "replicas", "maxReplicas")] == [1, 1, 7]
    settings = manifests.find(objects, "ConfigMap", "raysweep-settings")
    assert settings
    assert json.loads(settings["data"][env.RAYSWEEP_NODES]) == [{"count": 7, "CPU": 1}]
    assert (tmp_path / "kustomization.yaml").read_text().count("maxReplicas") == 1  # not one more each time


def test_workers_from_0_stay_so_and_without_an_autoscaler_all_come_at_once() -> None:
    group = {"groupName": "workers", "minReplicas": 0, "replicas": 4, "maxReplicas": 9}
    scaled = {"spec": {"enableInTreeAutoscaling": True, "workerGroupSpecs": [group]}}
    fixed = {"spec": {"workerGroupSpecs": [group]}}

    def counts(*arguments: object, **how: bool) -> list[int]:
        return [each["value"] for each in plan.resized(*arguments, **how)[1:]]

    assert counts(scaled, 5) == [5, 0, 0]
    assert counts(scaled, 3, keep=True) == [3, 0, 3]
    assert counts(fixed, 5, keep=True) == [5, 5, 5]


def test_a_group_without_any_node_is_counted_as_such() -> None:
    group = {"maxReplicas": 0, "rayStartParams": {"num-cpus": "2", "num-gpus": "1"}}
    assert json.loads(plan.nodes({"spec": {"workerGroupSpecs": [group]}})) == [{"count": 0, "CPU": 2, "GPU": 1}]
