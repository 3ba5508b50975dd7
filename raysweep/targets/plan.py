"""What is to run on a Kubernetes cluster: an overlay, the options, and the objects that come of them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from raysweep.targets import DASHBOARD_PORT, Options, manifests, ports, store, too_few
from raysweep.targets.kubernetes import Kube
from raysweep.targets.manifests import WORKERS, Additions, Object, find, replace

NAME = "raysweep"
NODES = "RAYSWEEP_NODES"  # see raysweep.capacity, which needs Ray
OPTIONS = frozenset({"dashboard_port", "s3_port", "workers", "num_cpus", "memory"})


@dataclass(frozen=True)
class Plan:
    """What is to run.

    Attributes:
        project: the project's folder.
        folder: what the target keeps, `.raysweep/kubernetes`.
        overlay: folder of k8s/overlays, or the user's own.
        options: what was asked for.
        patience: seconds for which a pod may find no node.
    """

    project: Path
    folder: Path
    overlay: Path
    options: Options
    patience: float

    @property
    def additions(self) -> Additions:
        """What the options and the environment put on top of the overlay."""
        added, options = Additions(), self.options
        operations = []
        if options.workers is not None:
            least = min(options.workers, 1)
            counts = {"maxReplicas": options.workers, "minReplicas": least, "replicas": least}
            operations += [replace(f"{WORKERS}/{key}", count) for key, count in counts.items()]
        if options.num_cpus is not None:
            operations.append(replace(f"{WORKERS}/rayStartParams/num-cpus", str(options.num_cpus)))
        if options.memory is not None:
            resources = f"{WORKERS}/template/spec/containers/0/resources"
            operations += [replace(f"{resources}/{key}/memory", options.memory) for key in ("requests", "limits")]
        if operations:
            added.patch("RayCluster", NAME, *operations)
        for name in ("RAYSWEEP_STORAGE", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
            if value := os.environ.get(name):
                added.patch("ConfigMap", "raysweep-settings", replace(f"/data/{name}", value))
        return added


def check(project: Path, overlay: Path, options: Options) -> list[str]:
    """What is wrong with the options, before anything starts."""
    problems = too_few({"--workers": options.workers, "--num-cpus": options.num_cpus})
    asked = {"--dashboard-port": options.dashboard_port or DASHBOARD_PORT, "--s3-port": options.s3_port or store.PORT}
    problems += ports.problems(asked)
    if not (overlay / "kustomization.yaml").exists():
        known = sorted(path.name for path in (project / "k8s" / "overlays").glob("*"))
        problems.append(
            f"`--overlay {overlay}`: it has no kustomization.yaml: name a folder, or one of {', '.join(known)}"
        )
    return problems


def objects(plan: Plan, kube: Kube) -> list[Object]:
    """What is applied: the overlay, what was asked for, where the API server is, and what the groups may grow to."""
    added = plan.additions
    manifests.write(plan.folder, plan.overlay, added)
    objects = manifests.render(plan.folder)
    if find(objects, "NetworkPolicy", "autoscaler-to-api-server"):
        added.patch("NetworkPolicy", "autoscaler-to-api-server", replace("/spec/egress", _api_server(kube)))
    if cluster := find(objects, "RayCluster"):
        added.patch("ConfigMap", "raysweep-settings", replace(f"/data/{NODES}", nodes(cluster)))
    manifests.write(plan.folder, plan.overlay, added)
    return manifests.render(plan.folder)


def nodes(cluster: Object) -> str:
    """The groups of a RayCluster that may grow, as `capacity` reads them."""
    groups = [
        {"count": group["maxReplicas"]}
        | {kind: int(group["rayStartParams"].get(key, 0)) for kind, key in (("CPU", "num-cpus"), ("GPU", "num-gpus"))}
        for group in cluster["spec"]["workerGroupSpecs"]
    ]
    return json.dumps([{key: value for key, value in group.items() if value or key == "count"} for group in groups])


def _api_server(kube: Kube) -> list[Object]:
    """Egress to the API server alone: its Service, and the addresses behind it, which most networks look at."""
    return [
        {
            "to": [{"ipBlock": {"cidr": f"{address}/32"}} for address in addresses],
            "ports": [{"protocol": "TCP", "port": number} for number in numbers],
        }
        for addresses, numbers in kube.api_addresses()
    ]
