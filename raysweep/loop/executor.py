"""The seam between the loop and what runs trials: a few verbs, and events.

`RayExecutor` runs them on a cluster, `Simulation` on a clock of its own. Nothing here says that a place runs one trial
only: an executor whose places are lanes of one process that trains many trials at once fits behind it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from raysweep.trial.run import Run
from raysweep.trial.session import Report


@dataclass(frozen=True)
class Share:
    """What one trial has of a node: CPUs and GPUs, fractions allowed."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Reported:
    """A trial has reported, and waits for `step` or `stop`."""

    trial: str
    report: Report


@dataclass(frozen=True)
class Returned:
    """A trial's function has come to its end by itself."""

    trial: str


@dataclass(frozen=True)
class Failed:
    """A trial's function raised, or its process is gone."""

    trial: str
    error: BaseException


Event = Reported | Returned | Failed


class Executor(Protocol):
    """What the loop asks of it. A trial is running from `start` until its `Returned`, its `Failed` or its `stop`."""

    def want(self, places: int) -> None:
        """How many places the loop would use now; there may be fewer, and those that are not wanted are given back."""

    @property
    def has_place(self) -> bool:
        """Whether a trial that is started now runs at once."""

    def start(self, run: Run, share: Share | None = None) -> None:
        """Runs a trial up to its first report; with another share than the others, if that is given."""

    def step(self, trial: str) -> None:
        """Lets a trial that has reported go on; after its last iteration it may have returned already."""

    def stop(self, trial: str) -> None:
        """Ends a running trial, whose function may clean up; nothing more is heard of it."""

    def kill(self, trial: str) -> None:
        """Ends a running trial's process; a `Failed` follows."""

    def wait(self, seconds: float) -> Sequence[Event]:
        """The next events, in the order in which they came; none if there are none for so many seconds."""

    def waiting_for(self) -> str:
        """Who or what keeps the places that the loop wants, for people."""

    def clock(self) -> float:
        """Seconds, from any beginning, in which the trials' time is measured."""

    def close(self) -> None:
        """Ends all trials, and gives all places back."""
