"""What the kit adds to an overlay: images, options, and nothing that was not requested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysweep.clusters.kubernetes import manifests, plan
from raysweep.clusters.kubernetes.manifests import Additions, find, replace
from raysweep.clusters.targets import Options
from raysweep.errors import ClusterError

ROOT = Path(__file__).parents[3]
KIND = ROOT / "k8s" / "overlays" / "kind"


def rendered(folder: Path, added: Additions | None = None) -> list[manifests.Object]:
    manifests.write(folder, KIND, added or Additions())
    return manifests.render(folder)


def cluster_of(objects: list[manifests.Object]) -> manifests.Object:
    cluster = find(objects, "RayCluster")
    assert cluster
    return cluster["spec"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("registry:5000/team/raysweep:1.2", {"newName": "registry:5000/team/raysweep", "newTag": "1.2"}),
        ("registry:5000/raysweep", {"newName": "registry:5000/raysweep", "newTag": "latest"}),
        ("ghcr.io/raysweep@sha256:abc", {"newName": "ghcr.io/raysweep", "digest": "sha256:abc"}),
    ],
)
def test_an_image_of_the_environment_is_everywhere(
    image: str, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert manifests._image("raysweep", image) == {"name": "raysweep"} | expected
    monkeypatch.setenv("RAYSWEEP_IMAGE", image)
    full = image if "@" in image or ":1" in image else f"{image}:latest"
    assert manifests.images(rendered(tmp_path)) == {full, "raysweep-store:local"}


def test_without_options_it_is_the_overlay(tmp_path: Path) -> None:
    assert rendered(tmp_path) == manifests.render(KIND)


def test_options_change_the_workers_and_nothing_else(tmp_path: Path) -> None:
    options = Options(num_cpus=3, memory="5Gi")
    added = plan.Plan(ROOT, tmp_path, KIND, options, 0).additions
    rendered(tmp_path, added)
    resized, plain = cluster_of(plan.resize(tmp_path, 7)), cluster_of(manifests.render(KIND))
    group = resized["workerGroupSpecs"][0]
    assert (group["minReplicas"], group["maxReplicas"], group["rayStartParams"]["num-cpus"]) == (1, 7, "3")
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"] == "5Gi"
    assert resized["headGroupSpec"] == plain["headGroupSpec"]
    assert json.loads(plan.nodes({"spec": resized})) == [{"count": 7, "CPU": 3}]


def test_storage_of_the_environment_reaches_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSWEEP_STORAGE", "s3://mine/sweeps")
    added = plan.Plan(ROOT, tmp_path, KIND, Options(), 0).additions
    settings = find(rendered(tmp_path, added), "ConfigMap", "raysweep-settings")
    assert settings
    assert settings["data"]["RAYSWEEP_STORAGE"] == "s3://mine/sweeps"


def test_a_string_stays_a_string_in_kustomize_whatever_it_looks_like(tmp_path: Path) -> None:
    texts = ["104795057e38", "1e3", "-1E+5", ".5e3", "0o17", "0x1f", "1_0", "12:30:45", "2001-01-01", "yes", "~", "1.2"]
    labels = {f"raysweep/{n}": text for n, text in enumerate(texts)}
    added = Additions()
    added.patch("RayCluster", "raysweep", replace("/metadata/annotations", labels), replace("/spec/n", 3))
    cluster = find(rendered(tmp_path, added), "RayCluster")
    assert cluster
    assert cluster["metadata"]["annotations"] == labels
    assert cluster["spec"]["n"] == 3
    manifests.amend(tmp_path, Additions())
    assert find(manifests.render(tmp_path), "RayCluster") == cluster


def test_the_reason_of_kustomizes_refusal_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    added = Additions()
    added.patch("RayCluster", "raysweep", replace("/spec/nowhere/at/all", 1))
    with pytest.raises(ClusterError, match="kubectl kustomize"):
        rendered(tmp_path, added)


def test_the_operator_of_another_source_has_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "operator"
    source.mkdir()
    (source / "kustomization.yaml").write_text("resources: [deployment.yaml]\n")
    container = "{name: kuberay-operator, image: kuberay, resources: {limits: {cpu: 100m, memory: 1Gi}}}"
    (source / "deployment.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: kuberay-operator}\n"
        f"spec: {{template: {{spec: {{containers: [{container}]}}}}}}\n"
    )
    monkeypatch.delenv("KUBERAY_MANIFESTS", raising=False)
    assert manifests.write_operator(tmp_path / "x") == ROOT / "k8s" / "operator"
    monkeypatch.setenv("KUBERAY_MANIFESTS", str(source))
    objects = manifests.render(manifests.write_operator(tmp_path / "made"))
    deployment = find(objects, "Deployment")
    assert deployment
    assert deployment["metadata"]["namespace"] == "kuberay"
    assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
