"""The Ray cluster of a Kubernetes target: operator, Secrets, the overlay's objects, and its ports on this machine.

`.raysweep/kubernetes/` has the applied kustomization, the keys of the store, and how to connect to the cluster.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from raysweep import env
from raysweep.clusters.kubernetes import kube_secrets, manifests, waiting
from raysweep.clusters.kubernetes import plan as plans
from raysweep.clusters.kubernetes.api import OURS, Kube, open_cluster
from raysweep.clusters.kubernetes.manifests import NAMESPACE, Object, find
from raysweep.clusters.kubernetes.package_map import NAME as PACKAGE
from raysweep.clusters.kubernetes.package_map import package_map
from raysweep.clusters.kubernetes.plan import NAME, Plan
from raysweep.clusters.kubernetes.waiting import Trouble, step, wait
from raysweep.clusters.shared import commands, forward, s3_keys
from raysweep.clusters.shared.ports import HOST
from raysweep.clusters.shared.until import until
from raysweep.clusters.targets import DASHBOARD_PORT, Cluster, answers, below_one
from raysweep.errors import BadInput, ClusterError, Unreachable

STORE = "raysweep-store"
OPERATOR = ("kuberay", "kuberay-operator")  # its namespace, and its Deployment
GROWING_PATIENCE = 900.0  # seconds without a node: a cloud may take this long to create one
READY_SECONDS = 600
FORWARD_SECONDS = 30
OWNER = "raysweep/project"  # label of the namespace: the project that owns it
SECRETS = ("raysweep-token", "raysweep-s3", "raysweep-store")  # created by kube_secrets
REVIVE_SECONDS = 120  # a head that was deleted is back by then


def record_of(target: str, cluster_id: str, token: Path, plan: Plan) -> Cluster:
    """The record of the cluster, to be written before anything is created."""
    return Cluster(
        target=target,
        id=cluster_id,
        dashboard=f"http://{HOST}:{plan.options.dashboard_port or DASHBOARD_PORT}",
        address="",
        storage=os.environ.get(env.RAYSWEEP_STORAGE) or s3_keys.STORAGE,
        token_path=str(token),
        settings=str(plan.folder / "settings.json"),
    )


def install(plan: Plan, cluster: Cluster, kube: Kube) -> Cluster:
    """Installs a Ray cluster, until its dashboard answers; prints how long each step takes.

    Returns:
        The cluster, with its storage and, if it has one, its own store.

    Raises:
        ClusterError: it cannot be installed, with the reason in one line.
    """
    kube.echo()
    project = project_id(plan.folder)
    refuse_foreign(kube, project)
    objects = [*plans.objects(plan, kube, {OWNER: project}, cluster.id), package_map()]
    cluster = _with_storage(plan, cluster, objects)
    with step("KubeRay operator"):
        _operator(plan, kube)
    _apply(cluster, kube, objects, plan.patience)
    return cluster


def revive(cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster:
    """Applies the same objects again, which does not change existing ones. See `Target.revive`."""
    kube = open_cluster(cluster.settings)
    kube.echo()
    if not kube.answers():
        raise Unreachable(f"the API server of context {kube.context} does not answer at {kube.server}")
    folder = Path(cluster.settings).parent
    refuse_foreign(kube, project_id(folder))
    _apply(cluster, kube, plans.readdress(folder, kube), patience_of(cluster))
    record(cluster)
    return cluster


def patience_of(cluster: Cluster) -> float:
    """Seconds for which its pods may be unschedulable."""
    return GROWING_PATIENCE if cluster.target == "k8s" else waiting.FIXED_PATIENCE


def _apply(cluster: Cluster, kube: Kube, objects: list[Object], patience: float) -> None:
    """Applies namespace, Secrets and the rest; then waits until everything is running and reachable from here."""
    with step("objects applied"):
        kube.apply([each for each in objects if each["kind"] == "Namespace"])
        trouble = Trouble(kube, NAMESPACE, patience, grows=patience > waiting.FIXED_PATIENCE)
        kube.apply(kube_secrets.objects(Path(cluster.settings).parent, cluster, own_role(objects)))
        kube.apply(objects)
    with step("Ray cluster ready"):
        wait(
            "the Ray cluster",
            lambda: _provisioned(kube) and not waiting.state(kube, NAMESPACE, NAME),
            seconds=max(READY_SECONDS, patience),
            trouble=lambda: trouble(NAME),
            state=lambda: waiting.state(kube, NAMESPACE, NAME),
        )
    with step("ports forwarded"):
        _reach(cluster, kube)
        if cluster.endpoint:
            s3_keys.create_bucket(cluster.endpoint, Path(cluster.credentials_path))


def _reach(cluster: Cluster, kube: Kube) -> None:
    log = _forward(cluster, kube)
    if not until(lambda: answers(cluster), REVIVE_SECONDS):
        what = f"{cluster.dashboard} does not answer within {REVIVE_SECONDS} s by `kubectl port-forward`"
        raise commands.failure(what, commands.said_in(log), "kubectl port-forward")


def own_role(objects: list[Object]) -> bool:
    """Whether the pods have a cloud role for S3, and so read no file with keys."""
    settings = find(objects, "ConfigMap", "raysweep-settings")
    return settings is not None and env.AWS_SHARED_CREDENTIALS_FILE not in settings["data"]


def healthy(cluster: Cluster) -> bool:
    """Whether the cluster answers; restarts ended port forwards, and waits for a head that is being replaced."""
    try:
        kube = open_cluster(cluster.settings)
        if kube.get("RayCluster", NAME) is None:
            return False
        _forward(cluster, kube)
        wait("the dashboard", lambda: answers(cluster), seconds=REVIVE_SECONDS)
    except Unreachable:
        raise
    except (ClusterError, OSError, ValueError):
        return False
    except BadInput as error:
        raise Unreachable(f"{error}; or, if that cluster is gone, `raysweep cluster down --forget`") from error
    return True


def scale(cluster: Cluster, workers: int) -> None:
    """Sets the largest number of workers that the autoscaler may request."""
    if problems := below_one({"--workers": workers}):
        raise BadInput(*problems)
    kube = open_cluster(cluster.settings)
    kube.echo()
    ray_cluster = kube.get("RayCluster", NAME)
    if ray_cluster is None:
        raise ClusterError(f"there is no RayCluster {NAME} in {kube.context}")
    kube.patch("RayCluster", NAME, plans.resized(ray_cluster, workers, keep=True))
    folder = Path(cluster.settings).parent
    objects = plans.resize(folder, workers)  # for later RayJobs, and for `up`
    settings = find(objects, "ConfigMap", "raysweep-settings")
    assert settings is not None
    kube.apply([settings])
    # Otherwise the file on the head could be up to a minute late, and the next job would read the old one.
    kube.touch(f"ray.io/cluster={NAME},ray.io/node-type=head")


def logs(cluster: Cluster, follow: bool) -> int:
    """Prints the output of heads, workers and the store."""
    kube = open_cluster(cluster.settings)
    flags = ["--all-containers", "--prefix", "--tail=30", "--max-log-requests=50", *(["--follow"] if follow else [])]
    return subprocess.call([*kube.command, "logs", "--selector=raysweep/role", *flags])


def remove(cluster: Cluster, volumes: bool) -> str:
    """Deletes our objects, but not the operator; nor, without `volumes`, the namespace with the store's volume."""
    kube = _open_for_removal(cluster)
    kube.echo()
    folder = Path(cluster.settings).parent
    refuse_foreign(kube, project_id(folder))
    forward.stop(cluster.id)
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
    for name in SECRETS:
        kube.delete("Secret", name, "v1")
    kube.delete("ConfigMap", PACKAGE, "v1")
    return f"{count} objects"


def _open_for_removal(cluster: Cluster) -> Kube:
    try:
        return open_cluster(cluster.settings)
    except (BadInput, OSError, ValueError) as error:
        raise ClusterError(f"{error}; or, if that cluster is gone, `raysweep cluster down --forget`") from error


def forget(cluster: Cluster) -> None:
    """Removes the local files of a cluster that was deleted together with its store."""
    folder = Path(cluster.settings).parent
    for each in (folder, folder.with_name("rayjob")):
        shutil.rmtree(each, ignore_errors=True)


def project_id(folder: Path) -> str:
    """Identifies this project among other checkouts on the same Kubernetes cluster; created once."""
    path = folder.with_name("project")
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(6))
    return path.read_text().strip()


def refuse_foreign(kube: Kube, project: str) -> None:
    """Raises BadInput if the namespace belongs to somebody else, or to another checkout of this project."""
    namespace = kube.get("Namespace", NAMESPACE, "v1")
    labels = (namespace or {}).get("metadata", {}).get("labels") or {}
    label, value = next(iter(OURS.items()))
    if namespace and labels.get(label) != value:
        raise BadInput(
            f"namespace `{NAMESPACE}` of {kube.context} is not of this kit: it lacks the label {label}={value}"
        )
    if namespace and labels.get(OWNER) != project:
        raise BadInput(
            f"namespace `{NAMESPACE}` of {kube.context} is another project's ({OWNER}={labels.get(OWNER)}): it is left"
            f" as it is; if it should be this one's: kubectl --context={kube.context} label --overwrite namespace"
            f" {NAMESPACE} {OWNER}={project}"
        )


def _with_storage(plan: Plan, cluster: Cluster, objects: list[Object]) -> Cluster:
    settings = find(objects, "ConfigMap", "raysweep-settings")
    assert settings is not None
    cluster = dataclasses.replace(cluster, storage=settings["data"][env.RAYSWEEP_STORAGE])
    if find(objects, "StatefulSet", STORE) is None:
        return cluster
    endpoint = f"http://{HOST}:{plan.options.s3_port or s3_keys.PORT}"
    return dataclasses.replace(cluster, endpoint=endpoint, credentials_path=str(plan.folder / s3_keys.CREDENTIALS))


def _operator(plan: Plan, kube: Kube) -> None:
    """Installs the KubeRay operator, unless this Kubernetes cluster has one."""
    if kube.get("CustomResourceDefinition", "rayclusters.ray.io", "apiextensions.k8s.io/v1") is None:
        kube.apply(manifests.render(manifests.write_operator(plan.folder / "operator")))
        wait(
            "the KubeRay operator",
            lambda: not waiting.state(kube, *OPERATOR) and bool(kube.pods(OPERATOR[0])),
            seconds=READY_SECONDS,
            trouble=partial(Trouble(kube, OPERATOR[0], plan.patience), OPERATOR[1]),
            state=lambda: waiting.state(kube, *OPERATOR),
        )


def _provisioned(kube: Kube) -> bool:
    ray_cluster: Any = kube.get("RayCluster", NAME) or {}
    conditions = ray_cluster.get("status", {}).get("conditions") or []
    return any(each["type"] == "RayClusterProvisioned" and each["status"] == "True" for each in conditions)


def _forward(cluster: Cluster, kube: Kube) -> Path:
    """Forwards the cluster's ports, and waits for them for a moment; returns the file with kubectl's messages."""
    services = {f"{NAME}-head-svc": (int(cluster.dashboard.rpartition(":")[2]), 8265)}
    if cluster.endpoint:
        services[STORE] = (int(cluster.endpoint.rpartition(":")[2]), s3_keys.PORT)
    log = Path(cluster.settings).parent / "forward.log"
    forward.start(kube.command, cluster.id, services, log)
    until(lambda: answers(cluster), FORWARD_SECONDS)
    return log
