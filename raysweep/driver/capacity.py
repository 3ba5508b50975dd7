"""The capacity of a cluster: its current nodes, and those that its autoscaler may add.

Ray's autoscaler v2 tells a driver which nodes are running and pending, but not how far its groups may grow
(`get_cluster_config` is empty under KubeRay and `ray up`). So the cluster declares its groups, as a JSON list such as
`[{"count": 3, "CPU": 1}]`: on docker and Kubernetes in a file, which `raysweep cluster scale` updates
(`clusters.docker`, `clusters.kubernetes.plan`), on virtual machines in RAYSWEEP_NODES, by cluster.yaml. Tests compare
them with the groups.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import ray

from raysweep import env
from raysweep.loop.places import fit

FILE = Path("/etc/raysweep") / env.RAYSWEEP_NODES  # a ConfigMap, or a folder of the docker target
KINDS = ("CPU", "GPU")
Node = dict[str, float]  # resource kind -> amount; for a group also `count`


def largest_node(kind: str) -> float:
    """The amount of "CPU" or "GPU" on the largest node that exists or may be added."""
    return max((node.get(kind, 0.0) for node in [*_current_nodes(), *groups()]), default=0.0)


def fits_on_a_node(cpus: float, gpus: float) -> bool:
    """Whether one node that exists or may be added has enough of both."""
    return any(fit(node, cpus, gpus) >= 1 for node in [*_current_nodes(), *groups()])


def describe_nodes() -> str:
    """The kinds of nodes that exist or may be added, such as `CPU 4 | CPU 2, GPU 1`."""
    kinds = {
        ", ".join(f"{kind} {node[kind]:g}" for kind in KINDS if node.get(kind)): None
        for node in [*_current_nodes(), *groups()]
    }
    return " | ".join(filter(None, kinds))


def describe(cpus: float, gpus: float) -> str:
    """The resources of one worker, such as `CPU 2, GPU 1`."""
    return ", ".join(f"{kind} {amount:g}" for kind, amount in zip(KINDS, (cpus, gpus), strict=True) if amount)


def largest_share(kind: str, workers: int) -> float:
    """The amount of "CPU" or "GPU" that each worker of a trial can have at most, so that there is room for all."""
    nodes = [*_current_nodes(), *groups()]
    parts = {node.get(kind, 0.0) / count for node in nodes for count in range(1, workers + 1)}
    possible = sorted({part if part <= 1 else float(math.floor(part)) for part in parts} - {0.0}, reverse=True)
    shares = ((part, 0.0) if kind == "CPU" else (0.0, part) for part in possible)
    return max(next((share for share in shares if max_trials(*share, workers)), (0.0,)))


def max_trials(cpus: float, gpus: float, workers: int = 1) -> int:
    """How many trials can run at once when the cluster has its largest size.

    For trials without GPUs, Ray adds nodes with GPUs only if there are no other nodes. The workers of a trial may be on
    several nodes.

    Args:
        cpus: of each worker of a trial.
        gpus: the same.
        workers: of a trial.
    """
    return sum(rooms(cpus, gpus)) // workers


def rooms(cpus: float, gpus: float) -> list[int]:
    """How many workers fit on each node that has room for one, when the cluster has its largest size."""
    candidates = groups()
    if gpus == 0 and any(fit(group, cpus, gpus) >= 1 for group in candidates if not group.get("GPU")):
        candidates = [group for group in candidates if not group.get("GPU")]
    added = [fit(group, cpus, gpus) for group in candidates for _ in range(int(group["count"]))]
    current = [fit(node, cpus, gpus) for node in _current_nodes()]
    return [room for room in max(added, current, key=sum) if room]


def groups() -> list[Node]:
    """The groups of nodes that the cluster may grow to; empty if it does not grow."""
    try:
        text = FILE.read_text()
    except OSError:
        text = os.environ.get(env.RAYSWEEP_NODES) or "[]"
    return [group for group in json.loads(text) if group["count"] > 0]


def _current_nodes() -> list[Node]:
    return [{kind: node["Resources"].get(kind, 0.0) for kind in KINDS} for node in ray.nodes() if node["Alive"]]
