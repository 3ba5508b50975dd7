"""Base classes: of all targets on Kubernetes, and of those whose Kubernetes cluster the kit creates itself."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import click

from raysweep import kit
from raysweep.clusters.kubernetes import manifests, raycluster
from raysweep.clusters.kubernetes.api import Kube, write_settings
from raysweep.clusters.kubernetes.plan import OPTIONS, Plan, check
from raysweep.clusters.kubernetes.waiting import FIXED_PATIENCE, step
from raysweep.clusters.shared import commands, forward
from raysweep.clusters.shared.images import absent, is_here, own_images
from raysweep.clusters.targets import Cluster, Options, Target
from raysweep.errors import BadInput, ClusterError

JOURNAL = ("journalctl", "--unit=kubelet", "--no-pager", "--output=cat", "--lines=1000")
KUBELET_ERROR = re.compile(r"[EF]\d{4} ")  # klog's mark of an error, with month and day
KUBELET_LINES = 5


class OnKubernetes(Target):
    """A Ray cluster managed by KubeRay."""

    options = OPTIONS
    resubmits = True

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
        """Applies the same objects again, which does not change existing ones."""
        return raycluster.revive(cluster, record)

    def healthy(self, cluster: Cluster) -> bool:
        """Whether the cluster answers; restarts ended port forwards, and waits for a head that is being replaced."""
        return raycluster.healthy(cluster)

    def scale(self, cluster: Cluster, workers: int) -> None:
        """Sets the largest number of workers that the autoscaler may request."""
        raycluster.scale(cluster, workers)

    def logs(self, cluster: Cluster, follow: bool) -> int:
        """Prints the output of heads, workers and the store."""
        return raycluster.logs(cluster, follow)


class OwnKubernetes(OnKubernetes):
    """On a Kubernetes cluster that the kit creates on this machine, and removes with everything in it.

    It has a kubeconfig of its own, `.raysweep/kubernetes/kubeconfig`: the user's contexts are neither read nor changed.

    Attributes:
        tool: the program that creates it; also the name of the target and of its overlay.
        context_prefix: of the context's name, before the cluster's name.
        programs: that it needs beside docker, and where they are to be had.
    """

    tool: ClassVar[str]
    context_prefix: ClassVar[str] = ""
    programs: ClassVar[Mapping[str, str]]

    def check(self, plan: Plan) -> list[str]:
        """Checks programs, images and options; returns the images to load into the cluster's node.

        They are the kit's own, and the operator's where it is here; otherwise the node pulls it.

        Raises:
            BadInput: something is missing on this machine (with how to install it), or an option is wrong.
        """
        programs = dict(self.programs) | {"docker": "https://docs.docker.com/engine/install"}
        if missing := [
            f"`{program}` is not installed: see {url}" for program, url in programs.items() if not shutil.which(program)
        ]:
            raise BadInput(*missing)
        manifests.kubectl()
        if problems := check(plan.project, plan.overlay, plan.options) + absent():
            raise BadInput(*problems)
        operator = manifests.images(manifests.render(manifests.write_operator(plan.folder / "operator")))
        return [*own_images().values(), *(image for image in sorted(operator) if is_here(image))]

    @abstractmethod
    def create(self, name: str, kubeconfig: str, plan: Plan) -> None:
        """Creates the Kubernetes cluster."""

    @abstractmethod
    def load(self, name: str, kubeconfig: str, images: list[str]) -> None:
        """Loads images into its node."""

    @abstractmethod
    def journal(self, name: str, kubeconfig: str) -> str:
        """What its node's kubelet says: the output of JOURNAL there."""

    @abstractmethod
    def delete(self, name: str, kubeconfig: str) -> None:
        """Removes the Kubernetes cluster."""

    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        """Creates the Kubernetes cluster, loads the images, and installs operator and Ray cluster."""
        folder, overlay = token.parent / "kubernetes", kit.overlay(project, self.tool)
        plan = Plan(project, folder, overlay, options, FIXED_PATIENCE)
        images = self.check(plan)
        name = f"raysweep-{secrets.token_hex(3)}"
        kubeconfig, context = str(folder / "kubeconfig"), self.context_prefix + name
        cluster = raycluster.record_of(self.tool, name, token, plan)
        write_settings(Path(cluster.settings), kubeconfig=kubeconfig, context=context)
        record(cluster)
        with step(f"{self.tool} cluster"), self.kubelet_asked(name, kubeconfig):
            self.create(name, kubeconfig, plan)
        with step("images in its node"):
            self.load(name, kubeconfig, images)
        cluster = raycluster.install(plan, cluster, Kube(kubeconfig, context))
        record(cluster)
        return cluster

    @contextlib.contextmanager
    def kubelet_asked(self, name: str, kubeconfig: str) -> Iterator[None]:
        """Adds to the error of a node that does not come up what its kubelet says, before the node is removed."""
        try:
            yield
        except ClusterError as error:
            raise ClusterError(f"{error}{self._kubelet(name, kubeconfig)}") from error

    def _kubelet(self, name: str, kubeconfig: str) -> str:
        try:
            said = self.journal(name, kubeconfig)
        except ClusterError:  # there is no node, or it cannot be asked
            said = ""
        if not said.strip():
            return ""
        errors = "\n".join(line for line in said.splitlines() if KUBELET_ERROR.match(line))
        shown = commands.last_lines(errors or said, KUBELET_LINES)
        return f"\nits kubelet says: {shown}{commands.keep('kubelet', said)}"

    def stop(self, cluster: Cluster, volumes: bool = False) -> str:
        """Removes the Kubernetes cluster, with its store, which is in the node."""
        click.echo(
            f"context {self.context_prefix}{cluster.id}: the whole Kubernetes cluster, which the kit made, is removed"
        )
        forward.stop(cluster.id)
        self.delete(cluster.id, str(Path(cluster.settings).parent / "kubeconfig"))
        raycluster.forget(cluster)
        return f"the Kubernetes cluster {cluster.id} and its store"
