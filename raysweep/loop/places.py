"""Places of a cluster: resources that are reserved for a sweep, and the processes in them that run its trials.

A place is a placement group (https://docs.ray.io/en/latest/ray-core/scheduling/placement-group.html) with the sweep's
name, and a bundle for each worker of a trial: all of them are reserved at once, or none is. An autoscaled cluster grows
at once for all places that are requested at once, and `placement_group_table` shows to every sweep of a cluster who
holds places, and who waits for some.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import ray
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raysweep.loop.crew import Crew
from raysweep.loop.executor import Share

OURS = "raysweep sweep "  # prefix of a placement group's name
TABLE_S = 1.0  # largest age of the information about other sweeps' places
YIELD_S = 10.0  # for how long a released place is left to the sweep that waits for it
ROUNDING = 1e-9  # 0.6 / 0.2 is slightly less than 3
AVOID_S = 600.0  # for how long no place is requested on a node that had no space left
NODE_ID = "ray.io/node-id"  # https://docs.ray.io/en/latest/ray-core/scheduling/labels.html
HOLDS, WAITS = ("CREATED", "RESCHEDULING"), ("PENDING", "PREPARED")


class Stage(Enum):
    """The state of a place."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"  # a trial is running
    ENDING = "ending"  # a trial's function is cleaning up
    LEAVING = "leaving"  # its process will be ended, when what it printed is stored


@dataclass(eq=False)
class Place:
    """Reserved resources, and the processes in them.

    Attributes:
        share: the resources.
        group: the placement group.
        crew: the processes.
        stage: its state.
        trial: the trial that is running or ending in it.
        since: when the stage began, in seconds from an arbitrary start.
    """

    share: Share
    group: Any
    crew: Crew
    stage: Stage = Stage.STARTING
    trial: str | None = None
    since: float = field(default_factory=time.monotonic)

    def enter(self, stage: Stage, trial: str | None = None) -> None:
        """Changes the stage."""
        self.stage, self.trial, self.since = stage, trial, time.monotonic()

    def close(self) -> None:
        """Kills the processes, and releases the resources."""
        self.crew.close()
        with contextlib.suppress(Exception):  # if the cluster is gone, there is nothing to release
            remove_placement_group(self.group)


def reserve(name: str, share: Share, actor: Callable[..., Any], avoid: Collection[str] = ()) -> Place:
    """Requests a place; its processes start when the cluster has room for all of them.

    They are put on as few nodes as have room.

    Args:
        name: of the sweep.
        share: its resources.
        actor: creates one of the actors, with Ray's options for actors.
        avoid: Ray's ids of the nodes on which it shall not be.
    """
    bundle = {kind: amount for kind, amount in (("CPU", share.cpus), ("GPU", share.gpus)) if amount}
    bundles = [dict(bundle) for _ in range(share.workers)]
    unique = f"{OURS}{name} {uuid.uuid4().hex}"  # as names have to be on a cluster
    elsewhere = [{NODE_ID: f"!in({','.join(sorted(avoid))})"} for _ in bundles] if avoid else None
    group = placement_group(bundles, strategy="PACK", name=unique, bundle_label_selector=elsewhere)
    strategies = (PlacementGroupSchedulingStrategy(group, index) for index in range(share.workers))
    resources = {"num_cpus": share.cpus, "num_gpus": share.gpus}
    return Place(share, group, Crew([actor(scheduling_strategy=each, **resources) for each in strategies]))


def fit(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many workers with these resources fit on a node."""
    share = {"CPU": cpus, "GPU": gpus}
    counts = (math.floor(node.get(kind, 0.0) / amount + ROUNDING) for kind, amount in share.items() if amount)
    return min(counts, default=0)


class FullNodes:
    """Nodes that had no space left a moment ago: as long as others have room for a place, none is requested there."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, nodes: Iterable[str]) -> None:
        """These nodes, by Ray's ids, have no space left now."""
        self._until |= dict.fromkeys(nodes, time.monotonic() + AVOID_S)

    def avoided(self, share: Share) -> set[str]:
        """The nodes on which no such place shall be; none, if the other nodes are too few for it."""
        now = time.monotonic()
        self._until = {node: until for node, until in self._until.items() if until > now}
        if not self._until:
            return set()
        others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in self._until]
        room = sum(fit(node["Resources"], share.cpus, share.gpus) for node in others)
        return set(self._until) if room >= share.workers else set()


def nodes_at(address: str) -> list[str]:
    """Ray's ids of the nodes with this address."""
    return [node["NodeID"] for node in ray.nodes() if node["Alive"] and address == node["NodeManagerAddress"]]


class Occupancy(NamedTuple):
    """The use of a sweep's places, see `history.live`."""

    places: int
    busy: int
    starting: int
    nodes: int

    @classmethod
    def of(cls, places: Collection[Place]) -> Occupancy:
        """That of these places; one whose process is being ended counts no more."""
        there = [place for place in places if place.stage not in (Stage.STARTING, Stage.LEAVING)]
        busy = sum(place.stage in (Stage.BUSY, Stage.ENDING) for place in there)
        starting = sum(place.stage is Stage.STARTING for place in places)
        return cls(len(there), busy, starting, len(set().union(*(place.crew.nodes for place in there))))


class Neighbours:
    """The other users of a cluster: who holds places, and who waits for some.

    Args:
        name: of this sweep, which is left out.
    """

    def __init__(self, name: str) -> None:
        self._own, self._updated = f"{OURS}{name} ", -TABLE_S
        self._holding: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()

    def _update(self) -> None:
        now = time.monotonic()
        if now - self._updated < TABLE_S:
            return
        self._updated = now
        groups = [group for group in placement_group_table().values() if not group["name"].startswith(self._own)]
        self._holding = Counter(_owner(group["name"]) for group in groups if group["state"] in HOLDS)
        self._waiting = Counter(_owner(group["name"]) for group in groups if group["state"] in WAITS)

    def should_yield(self, held: int) -> bool:
        """Whether another user waits for a place and has fewer places than this sweep, which has `held`."""
        self._update()
        return any(held > self._holding[owner] for owner in self._waiting)

    def describe(self) -> str:
        """Who holds places, as a text for the user; empty if nobody does."""
        self._update()
        return ", ".join(f"{owner} has {count}" for owner, count in sorted(self._holding.items()))


def _owner(name: str) -> str:
    if not name.startswith(OURS):
        return "another job of this cluster"
    return f"sweep `{name.removeprefix(OURS).partition(' ')[0]}`"
