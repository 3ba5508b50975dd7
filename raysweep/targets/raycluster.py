"""The Ray cluster of a Kubernetes target: operator, Secrets, the overlay's objects, and its ports on this machine.

In `.raysweep/kubernetes/`: the kustomization that was applied, the keys of the store, and how to find the cluster.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from raysweep.errors import BadInput, ClusterError
from raysweep.targets import (
    DASHBOARD_PORT,
    Cluster,
    answers,
    forward,
    kube_secrets,
    manifests,
    store,
    too_few,
    waiting,
)
from raysweep.targets import plan as plans
from raysweep.targets.kubernetes import OURS, Kube, open_cluster
from raysweep.targets.manifests import NAMESPACE, WORKERS, Object, find, replace
from raysweep.targets.plan import NAME, Plan
from raysweep.targets.ports import HOST
from raysweep.targets.waiting import step, wait

STORE = "raysweep-store"
READY_SECONDS = 600
FORWARD_SECONDS = 30
HEAD_PATIENCE = 900  # seconds that a RayJob's head may find no node: others may be at work, or a cloud makes one
REVIVE_SECONDS = 120  # a head that was deleted is back by then


def record_of(target: str, cluster_id: str, token: Path, plan: Plan) -> Cluster:
    """The cluster as it will be, to be recorded before anything is made."""
    return Cluster(
        target=target,
        id=cluster_id,
        dashboard=f"http://{HOST}:{plan.options.dashboard_port or DASHBOARD_PORT}",
        address="",
        storage=os.environ.get("RAYSWEEP_STORAGE") or store.STORAGE,
        token_path=str(token),
        settings=str(plan.folder / "settings.json"),
    )


def install(plan: Plan, cluster: Cluster, kube: Kube) -> Cluster:
    """From an empty Kubernetes cluster to a Ray cluster whose dashboard answers; says what takes how long.

    Returns:
        The cluster, with its storage and, if it brings one, its store.

    Raises:
        ClusterError: what is in the way, in one line.
    """
    click.echo(f"context {kube.context} ({kube.server}), namespace {NAMESPACE}")
    refuse_foreign(kube)
    objects = plans.objects(plan, kube)
    cluster = _with_storage(plan, cluster, objects)
    with step("KubeRay operator"):
        _operator(plan, kube)
    began = datetime.now(UTC).replace(microsecond=0)
    with step("objects applied"):
        kube.apply([each for each in objects if each["kind"] == "Namespace"])
        kube.apply(kube_secrets.objects(plan.folder, cluster))
        kube.apply(objects)
    with step("Ray cluster ready"):
        wait(
            "the Ray cluster",
            lambda: _provisioned(kube) and not waiting.state(kube.core, NAMESPACE),
            seconds=max(READY_SECONDS, plan.patience),
            trouble=lambda: waiting.trouble(kube.core, NAMESPACE, began, plan.patience),
            state=lambda: waiting.state(kube.core, NAMESPACE),
        )
    with step("ports forwarded"):
        _forward(cluster, kube)
        if cluster.endpoint:
            store.create_bucket(cluster.endpoint, Path(cluster.credentials_path))
    return cluster


def healthy(cluster: Cluster) -> bool:
    """Whether it answers; a forward that ended is begun again, and a head that is being replaced waited for."""
    try:
        kube = open_cluster(cluster.settings)
        if kube.get("RayCluster", NAME) is None:
            return False
        _forward(cluster, kube)
        wait("the dashboard", lambda: answers(cluster), seconds=REVIVE_SECONDS)
    except (BadInput, ClusterError, OSError, ValueError):
        return False
    return True


def scale(cluster: Cluster, workers: int) -> None:
    """The most workers that the autoscaler may ask for."""
    if wrong := too_few({"--workers": workers}):
        raise BadInput(*wrong)
    kube = open_cluster(cluster.settings)
    found = kube.get("RayCluster", NAME)
    if found is None:
        raise ClusterError(f"there is no RayCluster {NAME} in {kube.context}")
    group = found["spec"]["workerGroupSpecs"][0]
    fixed = not found["spec"].get("enableInTreeAutoscaling")
    least = workers if fixed else min(group["minReplicas"], workers)
    operations = [
        {"op": "test", "path": f"{WORKERS}/groupName", "value": group["groupName"]},
        replace(f"{WORKERS}/maxReplicas", workers),
        replace(f"{WORKERS}/minReplicas", least),
        replace(f"{WORKERS}/replicas", least if fixed else min(group["replicas"], workers)),
    ]
    kube.patch("RayCluster", NAME, operations)
    group["maxReplicas"] = workers
    told = {"data": {plans.NODES: plans.nodes(found)}}  # heads that are there have it in their environment
    kube.core.patch_namespaced_config_map("raysweep-settings", NAMESPACE, told)


def logs(cluster: Cluster, follow: bool) -> int:
    """What heads, workers and the store print."""
    kube = open_cluster(cluster.settings)
    flags = ["--all-containers", "--prefix", "--tail=30", "--max-log-requests=50", *(["--follow"] if follow else [])]
    return subprocess.call([*kube.command, "logs", "--selector=raysweep/role", *flags])


def remove(cluster: Cluster, volumes: bool) -> str:
    """Takes our objects away; the operator stays, and without `volumes` the namespace with the store's volume."""
    forward.stop(cluster.id)
    kube = open_cluster(cluster.settings)
    folder = Path(cluster.settings).parent
    count = 0
    for kind in ("RayJob", "RayCluster"):
        for name in kube.names(kind):
            kube.delete(kind, name)
            count += 1
    objects = manifests.render(folder)
    kept = () if volumes else ("Namespace",)
    for each in reversed(objects):
        if each["kind"] not in kept:
            kube.delete(each["kind"], each["metadata"]["name"], each["apiVersion"])
            count += 1
    return f"{count} objects"


def forget(cluster: Cluster) -> None:
    """Removes what is kept of a cluster that is gone with its store."""
    folder = Path(cluster.settings).parent
    for each in (folder, folder.with_name("rayjob")):
        shutil.rmtree(each, ignore_errors=True)


def refuse_foreign(kube: Kube) -> None:
    """Raises BadInput if somebody else has a namespace of our name."""
    found = kube.get("Namespace", NAMESPACE, "v1")
    label, value = next(iter(OURS.items()))
    if found and found["metadata"].get("labels", {}).get(label) != value:
        raise BadInput(
            f"namespace `{NAMESPACE}` of {kube.context} is not of this kit: it lacks the label {label}={value}"
        )


def _with_storage(plan: Plan, cluster: Cluster, objects: list[Object]) -> Cluster:
    settings = find(objects, "ConfigMap", "raysweep-settings")
    assert settings is not None
    cluster = dataclasses.replace(cluster, storage=settings["data"]["RAYSWEEP_STORAGE"])
    if find(objects, "StatefulSet", STORE) is None:
        return cluster
    endpoint = f"http://{HOST}:{plan.options.s3_port or store.PORT}"
    return dataclasses.replace(cluster, endpoint=endpoint, credentials_path=str(plan.folder / store.CREDENTIALS))


def _operator(plan: Plan, kube: Kube) -> None:
    """Installs the operator, unless this cluster has one."""
    if kube.get("CustomResourceDefinition", "rayclusters.ray.io", "apiextensions.k8s.io/v1") is None:
        kube.apply(manifests.render(manifests.write_operator(plan.folder / "operator", plan.project)))
        wait(
            "the KubeRay operator",
            lambda: not waiting.state(kube.core, "kuberay") and bool(kube.core.list_namespaced_pod("kuberay").items),
            seconds=READY_SECONDS,
            trouble=partial(waiting.trouble, kube.core, "kuberay", datetime.now(UTC), plan.patience),
            state=lambda: waiting.state(kube.core, "kuberay"),
        )


def _provisioned(kube: Kube) -> bool:
    found: Any = kube.get("RayCluster", NAME) or {}
    conditions = found.get("status", {}).get("conditions") or []
    return any(each["type"] == "RayClusterProvisioned" and each["status"] == "True" for each in conditions)


def _forward(cluster: Cluster, kube: Kube) -> None:
    services = {f"{NAME}-head-svc": (int(cluster.dashboard.rpartition(":")[2]), 8265)}
    if cluster.endpoint:
        services[STORE] = (int(cluster.endpoint.rpartition(":")[2]), store.PORT)
    forward.start(kube.command, cluster.id, services, Path(cluster.settings).parent / "forward.log")
    deadline = time.monotonic() + FORWARD_SECONDS
    while not answers(cluster) and time.monotonic() < deadline:
        time.sleep(0.1)
