"""The variables of a RayJob as a Secret of its own: neither its manifest nor its runtime environment has a value."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from raysweep.clusters.kubernetes.api import OURS
from raysweep.clusters.kubernetes.manifests import NAMESPACE, Object


def name(job: str) -> str:
    """The name of the Secret of a RayJob."""
    return f"{job}-env"


def secret(job: str, variables: Mapping[str, str | None], owner: Object | None = None) -> Object:
    """The Secret with the values; Kubernetes deletes it with its owner, the RayJob."""
    metadata: Object = {"name": name(job), "namespace": NAMESPACE, "labels": OURS}
    if owner is not None:
        metadata["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
        ]
    data = {key: base64.b64encode(_bytes(value)).decode() for key, value in variables.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def _bytes(value: str | None) -> bytes:
    return (value or "").encode("utf-8", "surrogateescape")  # as Python itself takes a variable's bytes


def use(rayjob: Object, variables: Mapping[str, str | None]) -> None:
    """Gives Ray's container of each of a RayJob's pods these variables from the Secret, in place of its own ones."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        container = group["template"]["spec"]["containers"][0]  # the first one is Ray's, as KubeRay has it
        kept = [each for each in container.get("env", []) if each["name"] not in variables]
        container["env"] = [*kept, *(_from_secret(rayjob["metadata"]["name"], key) for key in variables)]


def _from_secret(job: str, key: str) -> Object:
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": name(job), "key": key}}}
