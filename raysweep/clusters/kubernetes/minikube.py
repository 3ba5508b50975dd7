"""The target `minikube`: a Kubernetes cluster in minikube's machine or container, otherwise as the target kind.

Written to minikube's documentation, https://minikube.sigs.k8s.io/docs/commands. Its profile and its kubeconfig,
`.raysweep/kubernetes/kubeconfig`, are its own: the user's profiles and contexts are neither read nor changed.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import click

from raysweep import env
from raysweep.clusters.kubernetes import manifests, raycluster
from raysweep.clusters.kubernetes.api import Kube, open_cluster, write_settings
from raysweep.clusters.kubernetes.plan import OPTIONS as BASIC
from raysweep.clusters.kubernetes.plan import Plan, check
from raysweep.clusters.kubernetes.raycluster import healthy, logs, scale
from raysweep.clusters.kubernetes.waiting import FIXED_PATIENCE, step
from raysweep.clusters.shared import forward
from raysweep.clusters.targets import Cluster, Options
from raysweep.errors import BadInput, ClusterError

__all__ = ["OPTIONS", "healthy", "logs", "remove_volumes", "revive", "scale", "start", "stop"]

OPTIONS = BASIC | {"gpus"}
LASTING = True
RESUBMITS = True
CPUS, MEMORY, DISK = "max", "8g", "60g"  # the image takes 20 GB
ADDONS = ("default-storageclass", "storage-provisioner")


def start(project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
    """`minikube start`, the images into its node, operator and Ray cluster. See `Target.start`."""
    folder, overlay = token.parent / "kubernetes", project / "k8s" / "overlays" / "minikube"
    plan = Plan(project, folder, overlay, options, FIXED_PATIENCE)
    _check(plan)
    name = f"raysweep-{secrets.token_hex(3)}"
    kubeconfig = str(folder / "kubeconfig")
    cluster = raycluster.record_of("minikube", name, token, plan)
    write_settings(Path(cluster.settings), kubeconfig=kubeconfig, context=name)
    record(cluster)
    with step("minikube cluster"):
        _start(name, kubeconfig, bool(options.gpus))
    with step("images in its node"):
        for image in _images():
            _minikube(name, kubeconfig, "image", "load", image)
    cluster = raycluster.install(plan, cluster, Kube(kubeconfig, name))
    record(cluster)
    return cluster


def revive(cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
    """`minikube start`, which starts its machine again; without one there is nothing to keep. See `Target.revive`."""
    kubeconfig = str(Path(cluster.settings).parent / "kubeconfig")
    listed = json.loads(_minikube(cluster.id, kubeconfig, "profile", "list", "--output=json"))
    if cluster.id not in [each["Name"] for each in [*listed.get("valid", []), *listed.get("invalid", [])]]:
        return None
    if not open_cluster(cluster.settings).answers():
        _minikube(cluster.id, kubeconfig, "start", "--wait=all")
    return raycluster.revive(cluster, record)


def stop(cluster: Cluster, volumes: bool = False) -> str:
    """`minikube delete`, its store included: it lives in the node. See `Target.stop`."""
    click.echo(f"context {cluster.id}: the whole Kubernetes cluster, which the kit made, goes")
    forward.stop(cluster.id)
    folder = Path(cluster.settings).parent
    _minikube(cluster.id, str(folder / "kubeconfig"), "delete")
    raycluster.forget(cluster)
    return f"the Kubernetes cluster {cluster.id} and its store"


def remove_volumes(project: Path) -> None:
    """None outlives its cluster. See `Target.remove_volumes`."""


def _check(plan: Plan) -> None:
    if shutil.which("minikube") is None:
        raise BadInput("`minikube` is not installed: see https://minikube.sigs.k8s.io/docs/start")
    manifests.kubectl()
    if problems := check(plan.project, plan.overlay, plan.options):
        raise BadInput(*problems)


def _images() -> list[str]:
    return [os.environ.get(variable) or f"{name}:local" for name, variable in manifests.IMAGES.items()]


def _start(name: str, kubeconfig: str, gpus: bool) -> None:
    # Without Calico the network policies would be accepted and not enforced.
    flags = [f"--cpus={CPUS}", f"--memory={MEMORY}", f"--disk-size={DISK}", "--cni=calico", "--interactive=false"]
    _minikube(name, kubeconfig, "start", *flags, *(["--gpus=all"] if gpus else []), "--wait=all")
    for addon in ADDONS:
        _minikube(name, kubeconfig, "addons", "enable", addon)


def _minikube(name: str, kubeconfig: str, *arguments: str) -> str:
    command = ["minikube", f"--profile={name}", *arguments]
    environment = os.environ | {env.KUBECONFIG: kubeconfig}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ClusterError(f"`minikube {arguments[0]}` failed: {done.stderr.strip()}")
    return done.stdout
