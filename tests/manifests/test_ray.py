"""What Ray and KubeRay need said, and that what is said twice is the same."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from raysweep import env
from raysweep.clusters import local
from raysweep.clusters.kubernetes import manifests, plan
from raysweep.clusters.targets import Cluster
from tests.manifests.rendered import OVERLAYS, ROOT, Object, ray_clusters, render

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def locked(name: str) -> str:
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return next(package["version"] for package in packages if package["name"] == name)


def settings(objects: list[Object]) -> dict[str, str]:
    found = manifests.find(objects, "ConfigMap", "raysweep-settings")
    assert found
    return found["data"]


@every_overlay
def test_rays_version_is_that_of_the_lock(overlay: str) -> None:
    assert {spec["rayVersion"] for spec in ray_clusters(overlay)} == {locked("ray")}


def test_versions_and_images_are_said_once() -> None:
    text = "".join(path.read_text() for path in (ROOT / "k8s").rglob("*.yaml"))
    assert len(re.findall(r"rayVersion: ", text)) == 1
    assert len(re.findall(r"name: raysweep, newTag:", text)) == 1
    assert len(re.findall(r"ref=v\d", text)) == 1


@every_overlay
def test_the_autoscaler_is_v2_and_the_head_runs_no_trial(overlay: str) -> None:
    for spec in ray_clusters(overlay):
        assert spec["enableInTreeAutoscaling"] is True
        assert spec["autoscalerOptions"]["version"] == "v2"
        assert spec["autoscalerOptions"]["idleTimeoutSeconds"] > 0
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert all(group["minReplicas"] <= 1 < group["maxReplicas"] for group in spec["workerGroupSpecs"])


@every_overlay
def test_drivers_are_told_what_the_groups_may_grow_to(overlay: str) -> None:
    for spec in ray_clusters(overlay):
        assert json.loads(settings(render(overlay))["RAYSWEEP_NODES"]) == json.loads(plan.nodes({"spec": spec}))


@every_overlay
def test_a_pod_that_ends_gives_its_trials_a_minute(overlay: str) -> None:
    for spec in ray_clusters(overlay):
        for template in (spec["headGroupSpec"]["template"], *(g["template"] for g in spec["workerGroupSpecs"])):
            environment = {each["name"]: each["value"] for each in template["spec"]["containers"][0]["env"]}
            drain = float(environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
            assert template["spec"]["terminationGracePeriodSeconds"] >= max(60, drain + 15)


@every_overlay
def test_the_job_is_stopped_in_the_way_that_tune_understands(overlay: str) -> None:
    for spec in ray_clusters(overlay):
        env = {e["name"]: e.get("value") for e in spec["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]}
        assert env["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
        assert int(env["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60


def test_rays_logs_are_bounded_alike_on_every_target() -> None:
    names = (env.RAY_ROTATION_MAX_BYTES, env.RAY_ROTATION_BACKUP_COUNT)
    bounds = {name: local.environment(Cluster("local", "", "", "", "", ""))[name] for name in names}
    assert 0 < int(bounds[names[0]]) * (1 + int(bounds[names[1]])) <= 2**26
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    options = yaml.safe_load((ROOT / "cluster.yaml").read_text())["docker"]["run_options"]
    machines = dict(each.removeprefix("--env ").split("=", 1) for each in options if each.startswith("--env "))
    pods = [settings(render(overlay)) for overlay in OVERLAYS]
    for found in (compose["head"]["environment"], compose["worker"]["environment"], machines, *pods):
        assert {name: found[name] for name in names} == bounds


def test_the_rayjobs_cluster_is_that_of_the_overlay() -> None:
    assert ray_clusters("rayjob") == ray_clusters("kind")
    assert not [each for each in render("rayjob") if each["kind"] == "RayCluster"]
    job = next(each for each in render("rayjob") if each["kind"] == "RayJob")["spec"]
    assert job["backoffLimit"] > 0
    assert "--resume auto" in job["entrypoint"]
    assert job["activeDeadlineSeconds"] > job["preRunningDeadlineSeconds"] > 0


def test_minikube_is_as_kind() -> None:
    assert render("minikube") == render("kind")


def test_a_gpu_worker_differs_by_its_gpu_only() -> None:
    (spec,) = ray_clusters("gpu")
    cpu, gpu = spec["workerGroupSpecs"]
    assert gpu["rayStartParams"]["num-gpus"] == "1"
    assert gpu["minReplicas"] == 0
    pod, container = gpu["template"]["spec"], gpu["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    for key in ("nodeSelector", "tolerations"):
        del pod[key]
    for group in (cpu, gpu):
        del group["template"]["spec"]["containers"][0]["resources"]
        del group["template"]["spec"]["volumes"][1]
    assert cpu["template"] == gpu["template"]


@pytest.mark.parametrize("component", ["gpu-mig", "kueue", "monitoring"])
def test_components_go_on_top_of_an_overlay(component: str, tmp_path: Path) -> None:
    base = {"kueue": "../base"}.get(component, "gpu")
    added = manifests.Additions(components=(*(["rayjob"] if component == "kueue" else []), component))
    manifests.write(tmp_path, ROOT / "k8s" / "overlays" / base, added, ROOT / "k8s" / "components")
    objects = manifests.render(tmp_path)
    text = yaml.safe_dump_all(objects)
    if component == "gpu-mig":
        spec = manifests.find(objects, "RayCluster")["spec"]
        assert json.loads(settings(objects)["RAYSWEEP_NODES"]) == json.loads(plan.nodes({"spec": spec}))
        assert "nvidia.com/gpu: " not in text
        assert "nvidia.com/mig-1g.10gb" in text
    elif component == "kueue":
        job = manifests.find(objects, "RayJob")
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
        assert job["spec"]["suspend"] is True
        assert "enableInTreeAutoscaling" not in job["spec"]["rayClusterSpec"]
    else:
        assert manifests.find(objects, "PodMonitor")["spec"]["podTargetLabels"] == ["ray.io/cluster"]
        spec = manifests.find(objects, "RayCluster")["spec"]
        templates = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
        scrape = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
        assert [each["metadata"]["annotations"] for each in templates] == [scrape] * 3
        board = manifests.find(objects, "ConfigMap", "raysweep-dashboards")
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Ray leaves its file open
def test_the_dashboards_are_those_of_the_locked_ray() -> None:
    from ray.dashboard.modules.metrics.grafana_dashboard_factory import generate_default_grafana_dashboard

    text, _ = generate_default_grafana_dashboard()
    kept = ROOT / "k8s" / "components" / "monitoring" / "ray-default.json"
    assert json.loads(kept.read_text()) == json.loads(text), f"write generate_default_grafana_dashboard() to {kept}"
