"""Places of a cluster: a share of a node that is reserved for a sweep, and a process in it that runs its trials.

A place is a placement group of one bundle (https://docs.ray.io/en/latest/ray-core/scheduling/placement-group.html) that
bears the sweep's name. All that are asked for at once make an autoscaled cluster grow at once, and
`placement_group_table` tells every sweep of a cluster who has places, and who waits for some.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import ray
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raysweep.loop.executor import Share

OURS = "raysweep sweep "  # begins the name of a placement group
TABLE_S = 1.0  # how old what is known of other sweeps' places may be
YIELD_S = 10.0  # for how long a place that was given back is left to the one that it was given back for
HOLDS, WAITS = ("CREATED", "RESCHEDULING"), ("PENDING", "PREPARED")


class Stage(Enum):
    """What a place is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"  # a trial runs
    ENDING = "ending"  # a trial's function cleans up


@dataclass(eq=False)
class Place:
    """A reserved share of a node, and the process in it.

    Attributes:
        share: what is reserved.
        group: the placement group.
        actor: handle of the `TrialActor`.
        stage: what it is doing.
        trial: the trial that it runs or ends.
        since: when the stage began, in seconds from any beginning.
    """

    share: Share
    group: Any
    actor: Any
    stage: Stage = Stage.STARTING
    trial: str | None = None
    since: float = field(default_factory=time.monotonic)

    def enter(self, stage: Stage, trial: str | None = None) -> None:
        """The place begins to do something else."""
        self.stage, self.trial, self.since = stage, trial, time.monotonic()

    def close(self) -> None:
        """Ends the process, and gives the share back."""
        with contextlib.suppress(Exception):  # a cluster that is gone has nothing to give back
            ray.kill(self.actor)
            remove_placement_group(self.group)


def reserve(name: str, share: Share, actor: Callable[..., Any]) -> Place:
    """Asks for a place; its process starts when the cluster has room for it.

    Args:
        name: of the sweep.
        share: what it is to have.
        actor: makes the actor, given Ray's options for one.
    """
    bundle = {kind: much for kind, much in (("CPU", share.cpus), ("GPU", share.gpus)) if much}
    group = placement_group([bundle], name=f"{OURS}{name} {uuid.uuid4().hex}")  # names are unique on a cluster
    strategy = PlacementGroupSchedulingStrategy(placement_group=group)
    options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "scheduling_strategy": strategy}
    return Place(share, group, actor(**options))


class Neighbours:
    """The other users of a cluster: who holds places, and who waits for some.

    Args:
        name: of this sweep, which is none of them.
    """

    def __init__(self, name: str) -> None:
        self._own, self._asked = f"{OURS}{name} ", -TABLE_S
        self._holding: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._asked < TABLE_S:
            return
        self._asked = now
        groups = [group for group in placement_group_table().values() if not group["name"].startswith(self._own)]
        self._holding = Counter(_owner(group["name"]) for group in groups if group["state"] in HOLDS)
        self._waiting = Counter(_owner(group["name"]) for group in groups if group["state"] in WAITS)

    def wait_for_some(self, held: int) -> bool:
        """Whether another one waits for a place, and has fewer than the `held` ones of this sweep."""
        self._look()
        return any(held > self._holding[owner] for owner in self._waiting)

    def describe(self) -> str:
        """Who holds places, for people; empty if nobody does."""
        self._look()
        return ", ".join(f"{owner} has {count}" for owner, count in sorted(self._holding.items()))


def _owner(name: str) -> str:
    if not name.startswith(OURS):
        return "another job of this cluster"
    return f"sweep `{name.removeprefix(OURS).partition(' ')[0]}`"
