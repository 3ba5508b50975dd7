"""The target `minikube`: a Kubernetes cluster in a VM or container of minikube, otherwise like the target kind.

Written from minikube's documentation, https://minikube.sigs.k8s.io/docs/commands. It has a profile of its own, too.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from raysweep import env
from raysweep.clusters.kubernetes import manifests
from raysweep.clusters.kubernetes.api import open_cluster
from raysweep.clusters.kubernetes.plan import OPTIONS, Plan, check
from raysweep.clusters.kubernetes.target import JOURNAL, OwnKubernetes
from raysweep.clusters.shared import commands
from raysweep.clusters.shared.images import own_images
from raysweep.clusters.targets import Cluster
from raysweep.errors import BadInput

CPUS, MEMORY, DISK = "max", "8g", "60g"  # the image takes 20 GB
ADDONS = ("default-storageclass", "storage-provisioner")


class Minikube(OwnKubernetes):
    """A Kubernetes node in a VM or a container of minikube."""

    tool = "minikube"
    options = OPTIONS | {"gpus"}

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
        """Runs `minikube start`, which starts its VM or container again; without one there is nothing to keep."""
        kubeconfig = str(Path(cluster.settings).parent / "kubeconfig")
        listed = json.loads(_minikube(cluster.id, kubeconfig, "profile", "list", "--output=json"))
        if cluster.id not in [each["Name"] for each in [*listed.get("valid", []), *listed.get("invalid", [])]]:
            return None
        if not open_cluster(cluster.settings).answers():
            with self.kubelet_asked(cluster.id, kubeconfig):
                _minikube(cluster.id, kubeconfig, "start", "--wait=all")
        return super().revive(cluster, record)

    def check(self, plan: Plan) -> list[str]:
        """Checks for minikube, and checks the options; minikube itself reports missing images."""
        if shutil.which("minikube") is None:
            raise BadInput("`minikube` is not installed: see https://minikube.sigs.k8s.io/docs/start")
        manifests.kubectl()
        if problems := check(plan.project, plan.overlay, plan.options):
            raise BadInput(*problems)
        return list(own_images().values())

    def create(self, name: str, kubeconfig: str, plan: Plan) -> None:
        """Runs `minikube start`; without Calico, network policies would be accepted but not enforced."""
        flags = [f"--cpus={CPUS}", f"--memory={MEMORY}", f"--disk-size={DISK}", "--cni=calico", "--interactive=false"]
        _minikube(name, kubeconfig, "start", *flags, *(["--gpus=all"] if plan.options.gpus else []), "--wait=all")
        for addon in ADDONS:
            _minikube(name, kubeconfig, "addons", "enable", addon)

    def load(self, name: str, kubeconfig: str, images: list[str]) -> None:
        """Runs `minikube image load`."""
        for image in images:
            _minikube(name, kubeconfig, "image", "load", image)

    def journal(self, name: str, kubeconfig: str) -> str:
        """Asks its node by `minikube ssh`."""
        return _minikube(name, kubeconfig, "ssh", "--", "sudo", *JOURNAL)

    def delete(self, name: str, kubeconfig: str) -> None:
        """Runs `minikube delete`."""
        _minikube(name, kubeconfig, "delete")


def _minikube(name: str, kubeconfig: str, *arguments: str) -> str:
    command = ["minikube", f"--profile={name}", *arguments]
    environment = os.environ | {env.KUBECONFIG: kubeconfig}
    return commands.run(command, environment=environment)
