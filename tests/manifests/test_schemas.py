"""Every object that is applied is what its schema says: KubeRay's by its CRDs, Kubernetes' own by theirs."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.manifests.rendered import OVERLAYS, ROOT, Object, render

KUBERNETES = "1.35"
MANIFESTS = os.environ.get("KUBERAY_MANIFESTS")  # `make test` has it where kind can be had
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
with_crds = pytest.mark.skipif(not MANIFESTS, reason="KUBERAY_MANIFESTS is not set: KubeRay's CRDs are not here")


@functools.cache
def crd(kind: str) -> Object:
    folder = Path(MANIFESTS or "").parents[0] / "crd" / "bases"
    found = yaml.load((folder / f"ray.io_{kind.lower()}s.yaml").read_text(), Loader=yaml.CSafeLoader)
    versions = {version["name"]: version["schema"]["openAPIV3Schema"] for version in found["spec"]["versions"]}
    return closed(versions["v1"])


def closed(schema: Object) -> Object:
    """The schema with unknown fields refused: the API server would drop them without a word."""
    known = schema.get("properties")
    nested = {name: closed(inner) for name, inner in (known or {}).items()}
    extra = {"properties": nested, "additionalProperties": False} if known else {}
    if "items" in schema:
        extra["items"] = closed(schema["items"])
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        extra.pop("additionalProperties", None)
    return schema | extra


def problems(each: Object) -> list[str]:
    """What KubeRay's schema has against an object; its metadata are Kubernetes' own."""
    bare = {key: value for key, value in each.items() if key != "metadata"}
    errors = jsonschema.Draft202012Validator(crd(each["kind"])).iter_errors(bare)
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors]


@every_overlay
def test_objects_of_kubernetes_follow_its_schemas(overlay: str) -> None:
    for each in render(overlay):
        if not each["apiVersion"].startswith("ray.io/"):
            kubernetes_validate.validate(each, KUBERNETES, strict=True)


@with_crds
@every_overlay
def test_objects_of_kuberay_follow_its_crds(overlay: str) -> None:
    ours = [each for each in render(overlay) if each["apiVersion"].startswith("ray.io/")]
    assert ours
    assert [problem for each in ours for problem in problems(each)] == []


@with_crds
@pytest.mark.parametrize(
    ("path", "typo"),
    [
        (("spec", "enableInTreeAutoscaling"), "enableInTreeAutoScaling"),
        (("spec", "headGroupSpec", "template", "spec", "terminationGracePeriodSeconds"), "terminationGraceSeconds"),
        (("spec", "autoscalerOptions", "idleTimeoutSeconds"), "idleTimeout"),
    ],
)
def test_a_misspelt_field_is_found(path: tuple[str, ...], typo: str) -> None:
    (each,) = (each for each in render("kind") if each["kind"] == "RayCluster")
    holder = each
    for key in path[:-1]:
        holder = holder[key]
    holder[typo] = holder.pop(path[-1])
    assert any(typo in problem for problem in problems(each))


@pytest.mark.parametrize("path", sorted((ROOT / "k8s" / "gpu-sharing").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_applied_by_hand_follows_its_schema(path: Path) -> None:
    kubernetes_validate.validate(yaml.safe_load(path.read_text()), KUBERNETES, strict=True)


@every_overlay
def test_no_overlay_is_long_and_none_holds_a_secret(overlay: str) -> None:
    folder = ROOT / "k8s" / "overlays" / overlay
    assert len((folder / "kustomization.yaml").read_text().splitlines()) <= 40
    assert not [each for each in render(overlay) if each["kind"] == "Secret"]


def test_every_component_is_used_or_rendered_here() -> None:
    """What no overlay uses is tried on top of one: test_components."""
    used = set(re.findall(r"components/([\w-]+)", "".join(p.read_text() for p in (ROOT / "k8s").rglob("*.yaml"))))
    there = {path.parent.name for path in (ROOT / "k8s" / "components").glob("*/kustomization.yaml")}
    assert there - used == {"gpu-mig", "kueue", "monitoring"}
