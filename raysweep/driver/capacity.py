"""What a cluster can ever give: the nodes that are there, and those that its autoscaler may add.

Ray's autoscaler v2 tells a driver what runs and what is pending, and not what its groups may grow to
(`get_cluster_config` is empty under KubeRay and `ray up`). So the cluster says it, as a JSON list of groups such as
`[{"count": 3, "CPU": 1}]`: in a file, which follows `make scale`, or in RAYSWEEP_NODES. The manifests and cluster.yaml
set it, and tests compare.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import ray

from raysweep import env

FILE = Path("/etc/raysweep") / env.RAYSWEEP_NODES  # of a ConfigMap
KINDS = ("CPU", "GPU")
Node = dict[str, float]  # how much it has, by kind; of a group also `count`
ROUNDING = 1e-9  # 0.6 / 0.2 is less than 3


def largest_node(kind: str) -> float:
    """How much of "CPU" or "GPU" the largest node has, or would have."""
    return max((node.get(kind, 0.0) for node in [*_there(), *groups()]), default=0.0)


def node_for(cpus: float, gpus: float) -> bool:
    """Whether some node has, or would have, both at once."""
    return any(_fit(node, cpus, gpus) >= 1 for node in [*_there(), *groups()])


def described() -> str:
    """The different nodes that there are or may be, such as `CPU 4 | CPU 2, GPU 1`."""
    kinds = {
        ", ".join(f"{kind} {node[kind]:g}" for kind in KINDS if node.get(kind)): None for node in [*_there(), *groups()]
    }
    return " | ".join(filter(None, kinds))


def places(cpus: float, gpus: float) -> int:
    """How many trials run at once when the cluster has grown to its most.

    Ray starts no nodes with GPUs for trials without, unless there are no others.
    """
    grown = groups()
    if gpus == 0 and any(_fit(group, cpus, gpus) >= 1 for group in grown if not group.get("GPU")):
        grown = [group for group in grown if not group.get("GPU")]
    most = sum(group["count"] * _fit(group, cpus, gpus) for group in grown)
    return int(max(most, sum(_fit(node, cpus, gpus) for node in _there())))


def groups() -> list[Node]:
    """The groups that may have a node; none where the cluster does not grow."""
    try:
        text = FILE.read_text()
    except OSError:
        text = os.environ.get(env.RAYSWEEP_NODES) or "[]"
    return [group for group in json.loads(text) if group["count"] > 0]


def _there() -> list[Node]:
    return [{kind: node["Resources"].get(kind, 0.0) for kind in KINDS} for node in ray.nodes() if node["Alive"]]


def _fit(node: Node, cpus: float, gpus: float) -> int:
    """How many trials that ask for so much a node takes."""
    asked = {"CPU": cpus, "GPU": gpus}
    fits = (math.floor(node.get(kind, 0.0) / much + ROUNDING) for kind, much in asked.items() if much)
    return min(fits, default=0)
