"""The interface between the loop and what runs trials: a few calls, and events.

`RayExecutor` runs trials on a cluster, `Simulation` on a simulated clock. A place need not be a process: an executor
may also use places that share one process, which trains many trials at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from raysweep.trial.run import Run
from raysweep.trial.session import Report


@dataclass(frozen=True)
class Share:
    """The resources of one trial: CPUs and GPUs, which may be fractions, of each of its workers."""

    cpus: float
    gpus: float = 0.0
    workers: int = 1


@dataclass(frozen=True)
class Reported:
    """A trial has reported, and waits for `step` or `stop`."""

    trial: str
    report: Report


@dataclass(frozen=True)
class Returned:
    """A trial's function has returned by itself."""

    trial: str


@dataclass(frozen=True)
class Failed:
    """A trial's function raised, or its process is gone.

    Attributes:
        trial: the trial.
        error: what was raised, or Ray's error about the process.
        end: how the process ended, as it noted itself, such as `by SIGSEGV at train.py, line 3, in train`.
        log: where Ray's log of the process is.
        printed: the last lines that the trial printed.
        worker: the rank of the worker that it was, if the trial has several.
        host: the address of its node, if that is known.
    """

    trial: str
    error: BaseException
    end: str = ""
    log: str = ""
    printed: tuple[str, ...] = ()
    worker: int | None = None
    host: str = ""


Event = Reported | Returned | Failed


class Executor(Protocol):
    """What the loop needs. A trial is running from `start` until its `Returned`, its `Failed` or its `stop`."""

    def request_places(self, count: int) -> None:
        """Sets how many places the loop can use now; there may be fewer, and surplus ones are released."""

    @property
    def has_place(self) -> bool:
        """Whether a trial that is started now would run at once."""

    def start(self, run: Run, share: Share | None = None) -> None:
        """Runs a trial up to its first report; `share` if it needs other resources than most trials."""

    def step(self, trial: str) -> None:
        """Lets a trial that has reported continue; after its last iteration it may have returned already."""

    def stop(self, trial: str) -> None:
        """Ends a running trial, whose function may clean up; no further events of it follow."""

    def kill(self, trial: str) -> None:
        """Kills a running trial's process; a `Failed` follows."""

    def wait(self, seconds: float) -> Sequence[Event]:
        """The next events, in order of arrival; empty if there are none within this time."""

    def waiting_for(self) -> str:
        """Who or what holds the places that the loop has requested, as a text for the user."""

    def clock(self) -> float:
        """The time in seconds, from an arbitrary start, by which the trials' time is measured."""

    def close(self) -> None:
        """Ends all trials, and releases all places."""
