"""The target `kind`: a Kubernetes cluster in a container of this machine, with the KubeRay operator and a Ray cluster.

It has a kubeconfig of its own, `.raysweep/kubernetes/kubeconfig`: the user's contexts are neither read nor changed.
"""

from __future__ import annotations

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
from raysweep.clusters.kubernetes.plan import OPTIONS, Plan, check
from raysweep.clusters.kubernetes.raycluster import healthy, logs, scale
from raysweep.clusters.kubernetes.waiting import FIXED_PATIENCE, step, wait
from raysweep.clusters.shared import forward
from raysweep.clusters.targets import Cluster, Options
from raysweep.errors import BadInput, ClusterError

__all__ = ["OPTIONS", "healthy", "logs", "remove_volumes", "revive", "scale", "start", "stop"]

LASTING = True
RESUBMITS = True
CREATE_SECONDS = 300


def start(project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
    """`kind create cluster`, the images into its node, operator and Ray cluster. See `Target.start`."""
    folder, overlay = token.parent / "kubernetes", project / "k8s" / "overlays" / "kind"
    plan = Plan(project, folder, overlay, options, FIXED_PATIENCE)
    images = _check(plan)
    name = f"raysweep-{secrets.token_hex(3)}"
    kubeconfig = str(folder / "kubeconfig")
    cluster = raycluster.record_of("kind", name, token, plan)
    write_settings(Path(cluster.settings), kubeconfig=kubeconfig, context=f"kind-{name}")
    record(cluster)
    with step("kind cluster"):
        _create(name, kubeconfig, overlay / "kind-cluster.yaml")
    with step("images in its node"):
        _load(name, images)
    cluster = raycluster.install(plan, cluster, Kube(kubeconfig, f"kind-{name}"))
    record(cluster)
    return cluster


def revive(cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
    """Starts its node again if that has stopped; without a node there is nothing to keep. See `Target.revive`."""
    nodes = _run(["kind", "get", "nodes", "--quiet", "--name", cluster.id]).split()
    if not nodes:
        return None
    kube = open_cluster(cluster.settings)
    if not kube.answers():
        _run(["docker", "start", *nodes])
        wait("the Kubernetes cluster", kube.answers, seconds=CREATE_SECONDS)
    return raycluster.revive(cluster, record)


def stop(cluster: Cluster, volumes: bool = False) -> str:
    """`kind delete cluster`, its store included: it lives in the node. See `Target.stop`."""
    click.echo(f"context kind-{cluster.id}: the whole Kubernetes cluster, which the kit made, goes")
    forward.stop(cluster.id)
    kubeconfig = Path(cluster.settings).parent / "kubeconfig"
    _run(["kind", "delete", "cluster", "--name", cluster.id, "--kubeconfig", str(kubeconfig)])
    raycluster.forget(cluster)
    return f"the Kubernetes cluster {cluster.id} and its store"


def remove_volumes(project: Path) -> None:
    """None outlives its cluster. See `Target.remove_volumes`."""


def _check(plan: Plan) -> list[str]:
    """The images that go into the node.

    Raises:
        BadInput: what is missing on this machine, with how to get it, and what is wrong with the options.
    """
    known = {
        "docker": "https://docs.docker.com/engine/install",
        "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    }
    if missing := [f"`{tool}` is not installed: see {how}" for tool, how in known.items() if not shutil.which(tool)]:
        raise BadInput(*missing)
    manifests.kubectl()
    problems = check(plan.project, plan.overlay, plan.options)
    names = [os.environ.get(variable) or f"{name}:local" for name, variable in manifests.IMAGES.items()]
    if absent := [name for name in names if not _is_here(name)]:
        problems.append(f"there is no image {' and '.join(absent)}: build them with `make image`")
    if problems:
        raise BadInput(*problems)
    operator = manifests.images(manifests.render(manifests.write_operator(plan.folder / "operator", plan.project)))
    return names + [name for name in operator if _is_here(name)]  # else the node pulls it


def _is_here(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0


def _create(name: str, kubeconfig: str, config: Path) -> None:
    node = os.environ.get(env.KIND_NODE_IMAGE)
    flags = ["--name", name, "--kubeconfig", kubeconfig, "--config", str(config), "--wait", f"{CREATE_SECONDS}s"]
    _run(["kind", "create", "cluster", "--quiet", *flags, *(["--image", node] if node else [])])


def _load(name: str, images: list[str]) -> None:
    """As `kind load docker-image`, but without a copy of 7 GB in between."""
    nodes = _run(["kind", "get", "nodes", "--name", name]).split()
    for node in nodes:
        into = ["docker", "exec", "-i", node, "ctr", "--namespace=k8s.io", "images", "import", "--digests", "-"]
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
            done = subprocess.run(into, stdin=saved.stdout, capture_output=True, text=True)
        if done.returncode or saved.returncode:
            raise ClusterError(f"the images cannot be loaded into {node}: {done.stderr.strip()}")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(command[:3])}` failed: {done.stderr.strip()}")
    return done.stdout
