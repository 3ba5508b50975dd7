"""The manifests as `kubectl kustomize` renders them, and the pods that are hidden in them."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

from raysweep.clusters.kubernetes import manifests

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(path.parent.name for path in (ROOT / "k8s" / "overlays").glob("*/kustomization.yaml"))
Object = dict[str, Any]


@functools.cache
def _render(overlay: str) -> list[Object]:
    return manifests.render(ROOT / "k8s" / "overlays" / overlay)


def render(overlay: str) -> list[Object]:
    return copy.deepcopy(_render(overlay))


def ray_clusters(overlay: str) -> list[Object]:
    """The spec of each Ray cluster: of a RayCluster, or in a RayJob."""
    found = [each["spec"] for each in render(overlay) if each["kind"] in ("RayCluster", "RayJob")]
    return [spec.get("rayClusterSpec", spec) for spec in found]


def pods(overlay: str) -> list[Object]:
    """Every pod template as a Pod: the StatefulSet's, and those that KubeRay makes, with its autoscaler's container."""
    templates = {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in render(overlay)
        if each["kind"] in ("StatefulSet", "Deployment")
    }
    for spec in ray_clusters(overlay):
        head = spec["headGroupSpec"]["template"]
        if options := spec.get("autoscalerOptions"):
            image = head["spec"]["containers"][0]["image"]
            taken = {key: options[key] for key in ("resources", "securityContext", "env", "volumeMounts")}
            head["spec"]["containers"].append({"name": "autoscaler", "image": image, **taken})
        templates["head"] = head
        templates |= {group["groupName"]: group["template"] for group in spec["workerGroupSpecs"]}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "raysweep", **template["metadata"]}}
        | {"spec": template["spec"]}
        for name, template in templates.items()
    ]


def ray_containers(overlay: str) -> list[Object]:
    return [
        pod["spec"]["containers"][0] for pod in pods(overlay) if pod["metadata"]["labels"]["raysweep/role"] == "ray"
    ]
