"""The plan for a Kubernetes cluster: an overlay, the options, and the resulting objects."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from raysweep import env, kit
from raysweep.clusters.kubernetes import manifests
from raysweep.clusters.kubernetes.api import Kube
from raysweep.clusters.kubernetes.manifests import WORKERS, Additions, Object, find, replace
from raysweep.clusters.ping import LOOPBACK
from raysweep.clusters.shared import ports, s3_keys
from raysweep.clusters.targets import DASHBOARD_PORT, Options, below_one

NAME = "raysweep"
SETTINGS = "raysweep-settings"
AUTOSCALER, DASHBOARD = "autoscaler-to-api-server", "operator-to-dashboard"  # network policies
OPERATOR = {"app.kubernetes.io/component": "kuberay-operator"}  # label of its pods, in its manifests and in its chart
OPTIONS = frozenset({"dashboard_port", "s3_port", "workers", "num_cpus", "memory"})


@dataclass(frozen=True)
class Plan:
    """The plan for a cluster.

    Attributes:
        project: the project's folder.
        folder: the target's own files, `.raysweep/kubernetes`.
        overlay: folder of k8s/overlays, or the user's own.
        options: the requested options.
        patience: seconds for which a pod may be unschedulable.
    """

    project: Path
    folder: Path
    overlay: Path
    options: Options
    patience: float

    @property
    def additions(self) -> Additions:
        """The additions to the overlay from the options and the environment."""
        added, options = Additions(), self.options
        operations = []
        if options.num_cpus is not None:
            operations.append(replace(f"{WORKERS}/rayStartParams/num-cpus", str(options.num_cpus)))
        if options.memory is not None:
            resources = f"{WORKERS}/template/spec/containers/0/resources"
            operations += [replace(f"{resources}/{key}/memory", options.memory) for key in ("requests", "limits")]
        if operations:
            added.patch("RayCluster", NAME, *operations)
        for name in (env.RAYSWEEP_STORAGE, env.AWS_ENDPOINT_URL, env.AWS_DEFAULT_REGION):
            if value := os.environ.get(name):
                added.patch("ConfigMap", SETTINGS, replace(f"/data/{name}", value))
        return added


def check(project: Path, overlay: Path, options: Options) -> list[str]:
    """Problems with the options, before anything starts."""
    problems = below_one({"--workers": options.workers, "--num-cpus": options.num_cpus})
    own = {"--dashboard-port": options.dashboard_port or DASHBOARD_PORT, "--s3-port": options.s3_port or s3_keys.PORT}
    problems += ports.problems(own) + folder_as_storage(os.environ.get(env.RAYSWEEP_STORAGE))
    problems += _unreachable_endpoint()
    if not (overlay / "kustomization.yaml").exists():
        known = sorted({path.name for home in (project, kit.HOME) for path in (home / "k8s" / "overlays").glob("*")})
        problems.append(
            f"`--overlay {overlay}`: it has no kustomization.yaml: give a folder, or one of {', '.join(known)}"
        )
    return problems


def _unreachable_endpoint() -> list[str]:
    """Problems with a loopback endpoint, often left from `export`s for another cluster: pods cannot reach it."""
    endpoint = os.environ.get(env.AWS_ENDPOINT_URL)
    if endpoint is None or (urlsplit(endpoint).hostname or "") not in LOOPBACK:
        return []
    return [
        f"`AWS_ENDPOINT_URL {endpoint}`: pods cannot reach this machine's own addresses: unset it to use the store of"
        " the overlay, or set it to an address that they can reach"
    ]


def folder_as_storage(storage: str | None) -> list[str]:
    """Problems with a folder as storage: each pod has its own, which is lost with the pod."""
    if storage is None or storage.startswith("s3://"):
        return []
    return [f"`--storage {storage}`: a folder is lost with the pod that it is in: use s3://bucket/prefix"]


def objects(plan: Plan, kube: Kube, labels: dict[str, str], cluster_id: str) -> list[Object]:
    """The objects to apply: the overlay, with options, the API server's addresses, and the groups' largest sizes.

    Args:
        plan: the plan.
        kube: the Kubernetes cluster.
        labels: of the namespace.
        cluster_id: of the cluster; so that jobs of an earlier cluster are not submitted again.
    """
    added = plan.additions
    for label, value in labels.items():
        added.patch("Namespace", manifests.NAMESPACE, replace(f"/metadata/labels/{label.replace('/', '~1')}", value))
    manifests.write(plan.folder, plan.overlay, added)

    def complete(added: Additions, overlay: list[Object]) -> None:
        _readdress(added, overlay, kube)
        _place_tickets(added, overlay, cluster_id)
        _size(added, overlay, plan.options.workers)

    return _amended(plan.folder, complete)


def readdress(folder: Path, kube: Kube) -> list[Object]:
    """Updates the addresses of API server and operator in the kustomization; returns the objects."""
    return _amended(folder, lambda added, objects: _readdress(added, objects, kube))


def resize(folder: Path, workers: int) -> list[Object]:
    """Updates the largest number of workers in the kustomization; returns the objects."""
    return _amended(folder, lambda added, objects: _size(added, objects, workers))


def _amended(folder: Path, change: Callable[[Additions, list[Object]], None]) -> list[Object]:
    """Renders a kustomization, adds the changes that follow from its objects, and returns the objects with them."""
    added = Additions()
    change(added, manifests.render(folder))
    manifests.amend(folder, added)
    return manifests.render(folder)


def _readdress(added: Additions, objects: list[Object], kube: Kube) -> None:
    """Restricts network policies to the current addresses of API server and operator."""
    if find(objects, "NetworkPolicy", AUTOSCALER):
        added.patch("NetworkPolicy", AUTOSCALER, replace("/spec/egress", _api_server(kube)))
    if (namespaces := kube.namespaces_of(OPERATOR)) and find(objects, "NetworkPolicy", DASHBOARD):
        peers = [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "podSelector": {"matchLabels": OPERATOR},
            }
            for namespace in namespaces
        ]
        added.patch("NetworkPolicy", DASHBOARD, replace("/spec/ingress/0/from", peers))


def _place_tickets(added: Additions, objects: list[Object], cluster_id: str) -> None:
    """Gives the resubmitter of this cluster a folder of its own for the jobs' tickets, in the overlay's storage."""
    settings = find(objects, "ConfigMap", SETTINGS)
    if settings is not None:
        tickets = f"{settings['data'][env.RAYSWEEP_STORAGE].rstrip('/')}/.jobs/{cluster_id}"
        added.patch("ConfigMap", SETTINGS, replace(f"/data/{env.RAYSWEEP_JOBS}", tickets))


def _size(added: Additions, objects: list[Object], workers: int | None) -> None:
    """Sets the largest number of workers, if given, and the groups' largest sizes for drivers."""
    cluster = find(objects, "RayCluster")
    if cluster is None:
        return
    if workers is not None:
        added.patch("RayCluster", NAME, *resized(cluster, workers))
    added.patch("ConfigMap", SETTINGS, replace(f"/data/{env.RAYSWEEP_NODES}", nodes(cluster, workers)))


def resized(cluster: Object, workers: int, keep: bool = False) -> list[Object]:
    """JSON 6902 operations that set the largest number of workers of a RayCluster.

    Args:
        cluster: the object, as rendered or from the API server.
        workers: the largest number; without an autoscaler, all of them start at once.
        keep: whether to keep running workers, as far as the number allows.
    """
    group = cluster["spec"]["workerGroupSpecs"][0]
    fixed = not cluster["spec"].get("enableInTreeAutoscaling")
    least = workers if fixed else min(group["minReplicas"], workers)
    now = min(group["replicas"], workers) if keep and not fixed else least
    counts = {"maxReplicas": workers, "minReplicas": least, "replicas": now}
    return [
        {"op": "test", "path": f"{WORKERS}/groupName", "value": group["groupName"]},
        *(replace(f"{WORKERS}/{key}", count) for key, count in counts.items()),
    ]


def nodes(cluster: Object, workers: int | None = None) -> str:
    """The groups of a RayCluster in the format of `capacity`; the first may grow to `workers`, if given."""
    specs = cluster["spec"]["workerGroupSpecs"]
    counts = [group["maxReplicas"] for group in specs]
    if workers is not None:
        counts[0] = workers
    groups = [
        {"count": count}
        | {kind: int(group["rayStartParams"].get(key, 0)) for kind, key in (("CPU", "num-cpus"), ("GPU", "num-gpus"))}
        for group, count in zip(specs, counts, strict=True)
    ]
    return json.dumps([{key: value for key, value in group.items() if value or key == "count"} for group in groups])


def _api_server(kube: Kube) -> list[Object]:
    """Egress rules for the API server: its Service, and its endpoints, whose addresses most networks check."""
    return [
        {
            "to": [{"ipBlock": {"cidr": f"{address}/32"}} for address in addresses],
            "ports": [{"protocol": "TCP", "port": number} for number in numbers],
        }
        for addresses, numbers in kube.api_addresses()
    ]
