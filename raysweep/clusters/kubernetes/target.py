"""What the targets on Kubernetes have in common, and what those have whose Kubernetes cluster the kit makes itself."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import click

from raysweep.clusters.kubernetes import raycluster
from raysweep.clusters.kubernetes.api import Kube, write_settings
from raysweep.clusters.kubernetes.plan import OPTIONS, Plan
from raysweep.clusters.kubernetes.waiting import FIXED_PATIENCE, step
from raysweep.clusters.shared import forward
from raysweep.clusters.targets import Cluster, Options, Target


class OnKubernetes(Target):
    """A Ray cluster by KubeRay."""

    options = OPTIONS
    resubmits = True

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
        """Applies what was applied once more, which changes nothing of what is there."""
        return raycluster.revive(cluster, record)

    def healthy(self, cluster: Cluster) -> bool:
        """Whether it answers; a forward that ended is begun again, and a head that is being replaced waited for."""
        return raycluster.healthy(cluster)

    def scale(self, cluster: Cluster, workers: int) -> None:
        """The most workers that the autoscaler may ask for."""
        raycluster.scale(cluster, workers)

    def logs(self, cluster: Cluster, follow: bool) -> int:
        """What heads, workers and the store print."""
        return raycluster.logs(cluster, follow)


class OwnKubernetes(OnKubernetes):
    """On a Kubernetes cluster that the kit makes on this machine, and removes with all that is in it.

    Its kubeconfig is its own, `.raysweep/kubernetes/kubeconfig`: the user's contexts are neither read nor changed.

    Attributes:
        tool: the program that makes it, and the name of the target and of its overlay.
        context_prefix: before the cluster's name, in the name of its context.
    """

    tool: ClassVar[str]
    context_prefix: ClassVar[str] = ""

    @abstractmethod
    def check(self, plan: Plan) -> list[str]:
        """The images that go into the cluster's node.

        Raises:
            BadInput: what is missing on this machine, with how to get it, and what is wrong with the options.
        """

    @abstractmethod
    def create(self, name: str, kubeconfig: str, plan: Plan) -> None:
        """Makes the Kubernetes cluster."""

    @abstractmethod
    def load(self, name: str, kubeconfig: str, images: list[str]) -> None:
        """Puts images into its node."""

    @abstractmethod
    def delete(self, name: str, kubeconfig: str) -> None:
        """Removes the Kubernetes cluster."""

    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        """The Kubernetes cluster, the images into its node, operator and Ray cluster."""
        folder, overlay = token.parent / "kubernetes", project / "k8s" / "overlays" / self.tool
        plan = Plan(project, folder, overlay, options, FIXED_PATIENCE)
        images = self.check(plan)
        name = f"raysweep-{secrets.token_hex(3)}"
        kubeconfig, context = str(folder / "kubeconfig"), self.context_prefix + name
        cluster = raycluster.record_of(self.tool, name, token, plan)
        write_settings(Path(cluster.settings), kubeconfig=kubeconfig, context=context)
        record(cluster)
        with step(f"{self.tool} cluster"):
            self.create(name, kubeconfig, plan)
        with step("images in its node"):
            self.load(name, kubeconfig, images)
        cluster = raycluster.install(plan, cluster, Kube(kubeconfig, context))
        record(cluster)
        return cluster

    def stop(self, cluster: Cluster, volumes: bool = False) -> str:
        """Removes the Kubernetes cluster, its store included: it lives in the node."""
        click.echo(
            f"context {self.context_prefix}{cluster.id}: the whole Kubernetes cluster, which the kit made, is removed"
        )
        forward.stop(cluster.id)
        self.delete(cluster.id, str(Path(cluster.settings).parent / "kubeconfig"))
        raycluster.forget(cluster)
        return f"the Kubernetes cluster {cluster.id} and its store"
