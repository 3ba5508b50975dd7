"""What a trial's process is given: once what all trials of a sweep share, and for each run what is its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raysweep.history.checkpoint import Checkpoint
from raysweep.storage import Storage


@dataclass(frozen=True)
class TrialSpec:
    """What all trials of a sweep share; travels to each process once.

    Attributes:
        train: the task's training function.
        storage: the sweep's own folder or prefix.
        max_iterations: reports after which a trial is complete.
        numeric: metrics that must be numbers where they are reported: what is optimised.
        finite: metrics that must be finite numbers; a trial that reports another value of one fails.
        timeout: seconds that a trial may run; the process is ended even if it hangs outside of Python.
        own_folder: whether a trial runs in a folder of its own, as one of Ray Tune does.
        show: a queue of Ray's for what trials print, if the driver is to show that.
    """

    train: Callable[..., None]
    storage: Storage
    max_iterations: int
    numeric: tuple[str, ...] = ()
    finite: tuple[str, ...] = ()
    timeout: float | None = None
    own_folder: bool = False
    show: Any = None


@dataclass(frozen=True)
class Seat:
    """Which of its trial's workers a process is, in the words of torchrun.

    Attributes:
        rank: its number; what worker 0 reports and saves is the trial's.
        world_size: how many workers the trial has.
        local_rank: its number among those of its node.
        local_world_size: how many of them are on its node.
        node_rank: the number of its node among the trial's.
        gpus: Ray's ids of the GPUs of all workers on its node, in the order of their ranks.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node_rank: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run of a trial: from its beginning or a checkpoint.

    Attributes:
        trial: its id.
        config: its configuration, with the objects of the space.
        written: the same as the journal has it, see `spec.configuration`.
        start: what it goes on from.
        spent: seconds that it has run before.
        first: no run of this trial was begun before.
    """

    trial: str
    config: dict[str, Any]
    written: dict[str, Any]
    start: Checkpoint | None = None
    spent: float = 0.0
    first: bool = False
