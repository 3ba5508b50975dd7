"""The target `kind`: a Kubernetes cluster in a container on this machine, with KubeRay and a Ray cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from raysweep import env
from raysweep.clusters.kubernetes import manifests
from raysweep.clusters.kubernetes.api import open_cluster
from raysweep.clusters.kubernetes.plan import Plan, check
from raysweep.clusters.kubernetes.target import JOURNAL, OwnKubernetes
from raysweep.clusters.kubernetes.waiting import wait
from raysweep.clusters.shared import commands
from raysweep.clusters.shared.images import copy, own_images
from raysweep.clusters.targets import Cluster
from raysweep.errors import BadInput

CREATE_SECONDS = 300


class Kind(OwnKubernetes):
    """A Kubernetes node in a container on this machine."""

    tool = "kind"
    context_prefix = "kind-"

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
        """Starts its node again if it has stopped; without a node there is nothing to keep."""
        if not (nodes := _nodes(cluster.id)):
            return None
        kube = open_cluster(cluster.settings)
        if not kube.answers():
            with self.kubelet_asked(cluster.id, str(Path(cluster.settings).parent / "kubeconfig")):
                commands.run(["docker", "start", *nodes])
                wait("the Kubernetes cluster", kube.answers, seconds=CREATE_SECONDS)
        return super().revive(cluster, record)

    def check(self, plan: Plan) -> list[str]:
        """Checks for Docker, kind and the images, and checks the options."""
        tools = {
            "docker": "https://docs.docker.com/engine/install",
            "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
        }
        if missing := [
            f"`{tool}` is not installed: see {url}" for tool, url in tools.items() if not shutil.which(tool)
        ]:
            raise BadInput(*missing)
        manifests.kubectl()
        problems, images = check(plan.project, plan.overlay, plan.options), list(own_images().values())
        if absent := [name for name in images if not _is_here(name)]:
            problems.append(f"there is no image {' and '.join(absent)}: build them with `raysweep image`")
        if problems:
            raise BadInput(*problems)
        operator = manifests.images(manifests.render(manifests.write_operator(plan.folder / "operator")))
        return images + [name for name in operator if _is_here(name)]  # otherwise the node pulls it

    def create(self, name: str, kubeconfig: str, plan: Plan) -> None:
        """Runs `kind create cluster`; a node that does not come up stays until it was asked why."""
        node, config = os.environ.get(env.KIND_NODE_IMAGE), str(plan.overlay / "kind-cluster.yaml")
        flags = ["--name", name, "--kubeconfig", kubeconfig, "--config", config, "--wait", f"{CREATE_SECONDS}s"]
        commands.run(["kind", "create", "cluster", "--retain", *flags, *(["--image", node] if node else [])])

    def load(self, name: str, kubeconfig: str, images: list[str]) -> None:
        """Does the same as `kind load docker-image`, but without a temporary copy of 7 GB."""
        for node in _nodes(name):
            copy(images, ["docker", "exec", "-i", node])

    def journal(self, name: str, kubeconfig: str) -> str:
        """Asks its nodes, which are containers, by `docker exec`."""
        return "\n".join(commands.run(["docker", "exec", node, *JOURNAL]) for node in _nodes(name))

    def delete(self, name: str, kubeconfig: str) -> None:
        """Runs `kind delete cluster`."""
        commands.run(["kind", "delete", "cluster", "--name", name, "--kubeconfig", kubeconfig])


def _is_here(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0


def _nodes(name: str) -> list[str]:
    return commands.run(["kind", "get", "nodes", "--name", name]).split()
