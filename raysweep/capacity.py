"""What a cluster can ever give: the nodes that are there, and those that its autoscaler may add.

Ray's autoscaler v2 tells a driver what runs and what is pending, and not what its groups may grow to
(`get_cluster_config` is empty under KubeRay and `ray up`). So the cluster says it in RAYSWEEP_NODES, a JSON list of
groups such as `[{"count": 3, "CPU": 1}]`; the manifests and cluster.yaml set it, and tests compare.
"""

from __future__ import annotations

import json
import os

import ray

NODES = "RAYSWEEP_NODES"
Group = dict[str, float]


def largest_node(kind: str) -> float:
    """How much of "CPU" or "GPU" the largest node has, or would have."""
    there = [node["Resources"].get(kind, 0.0) for node in ray.nodes() if node["Alive"]]
    return max([*there, *(group.get(kind, 0.0) for group in _groups())], default=0.0)


def total(kind: str) -> float:
    """How much of "CPU" or "GPU" the cluster has when it has grown to its most."""
    grown = sum(group["count"] * group.get(kind, 0.0) for group in _groups())
    return max(float(ray.cluster_resources().get(kind, 0.0)), grown)


def _groups() -> list[Group]:
    """The groups that may have a node."""
    return [group for group in json.loads(os.environ.get(NODES) or "[]") if group["count"] > 0]
