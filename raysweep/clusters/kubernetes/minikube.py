"""The target `minikube`: a Kubernetes cluster in a VM or container of minikube, otherwise like the target kind.

It has a profile of its own, too. Each command is in minikube's documentation,
https://minikube.sigs.k8s.io/docs/commands.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from raysweep import env
from raysweep.clusters.kubernetes.api import open_cluster
from raysweep.clusters.kubernetes.plan import OPTIONS, Plan
from raysweep.clusters.kubernetes.target import JOURNAL, OwnKubernetes
from raysweep.clusters.shared import commands
from raysweep.clusters.shared.images import stream
from raysweep.clusters.targets import Cluster
from raysweep.errors import ClusterError

CPUS, MEMORY, DISK = "max", "8g", "60g"  # the image takes 20 GB
# Container runtime of the node -> its program that reads images from standard input.
IMPORT = {
    "containerd": "ctr --namespace=k8s.io images import --digests -",
    "crio": "podman load",
    "docker": "docker load",
}
ADDONS = ("default-storageclass", "storage-provisioner")


class Minikube(OwnKubernetes):
    """A Kubernetes node in a VM or a container of minikube."""

    tool = "minikube"
    options = OPTIONS | {"gpus"}
    programs: ClassVar = {
        "minikube": "https://minikube.sigs.k8s.io/docs/start",
        "ssh": "https://www.openssh.org/portable.html",
    }

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
        """Runs `minikube start`, which starts its VM or container again; without one there is nothing to keep."""
        kubeconfig = str(Path(cluster.settings).parent / "kubeconfig")
        if _profile(cluster.id, kubeconfig) is None:
            return None
        if not open_cluster(cluster.settings).answers():
            with self.kubelet_asked(cluster.id, kubeconfig):
                _minikube(cluster.id, kubeconfig, "start", "--wait=all")
        return super().revive(cluster, record)

    def create(self, name: str, kubeconfig: str, plan: Plan) -> None:
        """Runs `minikube start`; without Calico, network policies would be accepted but not enforced."""
        flags = [f"--cpus={CPUS}", f"--memory={MEMORY}", f"--disk-size={DISK}", "--cni=calico", "--interactive=false"]
        _minikube(name, kubeconfig, "start", *flags, *(["--gpus=all"] if plan.options.gpus else []), "--wait=all")
        for addon in ADDONS:
            _minikube(name, kubeconfig, "addons", "enable", addon)

    def load(self, name: str, kubeconfig: str, images: list[str]) -> None:
        """Sends them by minikube's ssh to the container runtime, since `minikube image load` holds each in memory.

        It is the program ssh, since minikube's own client asks for a terminal, which changes the bytes.
        """
        profile = _profile(name, kubeconfig)
        runtime = profile["Config"]["KubernetesConfig"]["ContainerRuntime"] if profile else ""
        if runtime not in IMPORT:
            raise ClusterError(
                f"minikube's container runtime is {runtime or 'unknown'}, not one of {', '.join(IMPORT)}"
            )
        program = ["sudo", *IMPORT[runtime].split()]
        stream(images, _command(name, "ssh", "--native-ssh=false", "--", *program), _environment(kubeconfig))

    def journal(self, name: str, kubeconfig: str) -> str:
        """Asks its node by `minikube ssh`."""
        return _minikube(name, kubeconfig, "ssh", "--", "sudo", *JOURNAL)

    def delete(self, name: str, kubeconfig: str) -> None:
        """Runs `minikube delete`."""
        _minikube(name, kubeconfig, "delete")


def _profile(name: str, kubeconfig: str) -> dict[str, Any] | None:
    """What minikube knows of a cluster; None if there is none of this name."""
    listed = json.loads(_minikube(name, kubeconfig, "profile", "list", "--light", "--output=json"))
    found = [*(listed.get("valid") or []), *(listed.get("invalid") or [])]
    return next((each for each in found if each["Name"] == name), None)


def _minikube(name: str, kubeconfig: str, *arguments: str) -> str:
    return commands.run(_command(name, *arguments), environment=_environment(kubeconfig))


def _command(name: str, *arguments: str) -> list[str]:
    return ["minikube", f"--profile={name}", *arguments]


def _environment(kubeconfig: str) -> dict[str, str]:
    return os.environ | {env.KUBECONFIG: kubeconfig}
