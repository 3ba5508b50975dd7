"""The target `k8s`: a Ray cluster on an existing Kubernetes cluster, that of the current context or of --context."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from raysweep import kit
from raysweep.clusters.kubernetes import manifests, raycluster
from raysweep.clusters.kubernetes.api import Kube, open_cluster, write_settings
from raysweep.clusters.kubernetes.manifests import NAMESPACE
from raysweep.clusters.kubernetes.plan import OPTIONS, Plan, check
from raysweep.clusters.kubernetes.target import OnKubernetes
from raysweep.clusters.targets import Cluster, Options
from raysweep.errors import BadInput, ClusterError

OVERLAY = "gpu"


class Existing(OnKubernetes):
    """On a Kubernetes cluster that others may use, too: the kit creates and removes only its own objects."""

    options = OPTIONS | {"context", "overlay"}

    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        """Applies the overlay to the context, which is shown first."""
        name = options.overlay or OVERLAY
        overlay = Path(name).absolute() if "/" in name else kit.overlay(project, name)
        plan = Plan(project, token.parent / "kubernetes", overlay, options, raycluster.GROWING_PATIENCE)
        manifests.kubectl()
        if problems := check(project, overlay, options):
            raise BadInput(*problems)
        kube = Kube(None, options.context)
        if not kube.answers():
            raise BadInput(f"the Kubernetes cluster of context {kube.context} does not answer at {kube.server}")
        cluster = raycluster.record_of("k8s", uuid.uuid4().hex, token, plan)
        raycluster.refuse_foreign(kube, raycluster.project_id(plan.folder))
        write_settings(Path(cluster.settings), kubeconfig=None, context=kube.context)
        record(cluster)
        cluster = raycluster.install(plan, cluster, kube)
        record(cluster)
        return cluster

    def stop(self, cluster: Cluster, volumes: bool = False) -> str:
        """Deletes the applied objects, but neither the Kubernetes cluster nor its operator."""
        return raycluster.remove(cluster, volumes)

    def remove_volumes(self, project: Path) -> None:
        """Deletes the namespace that a cluster left behind."""
        settings = project / kit.FOLDER / "kubernetes" / "settings.json"
        if settings.exists():
            try:
                kube = open_cluster(str(settings))
                kube.echo()
                raycluster.refuse_foreign(kube, raycluster.project_id(settings.parent))
                kube.delete("Namespace", NAMESPACE, "v1")
            except BadInput as error:
                raise ClusterError(f"the store's data cannot be removed: {error}") from error
            settings.unlink()
