"""Whether the trials that a node runs at the same time fit into its memory, and into that of its GPUs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from raysweep.spec.sweep import Sweep
from raysweep.trial.usage import Usage

# Beyond it Ray ends processes: https://docs.ray.io/en/latest/ray-core/scheduling/ray-oom-prevention.html
USABLE = 0.95
CUDA_CONTEXT = 2**29  # bytes that each process has on its GPU beside what torch counts, about
GIB = 2**30


@dataclass(frozen=True)
class Fit:
    """What the processes of trials need, and what there is; memory in bytes.

    Attributes:
        own: of a process at its peak, without what it shares.
        shared: what all of a node share.
        host_memory: of the smallest node.
        at_once: processes that run on a node at the same time.
        gpu: of a process on its GPU at its peak, with CUDA's context; 0 without one.
        gpu_memory: of the smallest GPU; 0 without one.
        on_gpu: processes that share a GPU.
        cpus: of a process.
        gpus: of a process.
    """

    own: int
    shared: int
    host_memory: int
    at_once: int
    gpu: int = 0
    gpu_memory: int = 0
    on_gpu: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    @classmethod
    def of(cls, sweep: Sweep, usages: Sequence[Usage], rooms: Sequence[int], places: int) -> Fit | None:
        """What the timed processes say of a whole sweep; None if they say nothing.

        Args:
            sweep: with the resources of a trial.
            usages: of the timed processes; the largest one counts.
            rooms: processes for which each node has room, by CPUs and GPUs.
            places: trials of the sweep at the same time.
        """
        if not usages:
            return None
        gpu = max(usage.gpu for usage in usages)
        return cls(
            own=max(usage.own for usage in usages),
            shared=max(usage.shared for usage in usages),
            host_memory=min(usage.host_memory for usage in usages),
            at_once=min(max(rooms, default=1), places * sweep.workers),
            gpu=gpu + CUDA_CONTEXT if gpu else 0,
            gpu_memory=min((usage.gpu_memory for usage in usages if usage.gpu), default=0),
            on_gpu=min(math.floor(1 / sweep.gpus + 1e-9), places) if 0 < sweep.gpus < 1 else 1,
            cpus=sweep.cpus,
            gpus=sweep.gpus,
        )

    @property
    def room(self) -> int:
        """Processes for which the memory of a node has room."""
        return max(math.floor((USABLE * self.host_memory - self.shared) / max(self.own, 1)), 0)

    @property
    def gpu_room(self) -> int:
        """Processes for which the memory of a GPU has room."""
        return self.gpu_memory // self.gpu if self.gpu else self.on_gpu

    @property
    def problems(self) -> list[str]:
        """What does not fit: the flag with its value, why, and the fix."""
        found = []
        if self.room < self.at_once:
            flag = f"`--cpus-per-trial {self.cpus:g}`: a node would run {self.at_once} processes of trials at a time"
            needs = f"{flag}, which need {(self.at_once * self.own + self.shared) / GIB:.1f} GiB, and has"
            found.append(f"{needs} {self.host_memory / GIB:.1f} GiB: {self._fix(self.room, self.at_once, self.cpus)}")
        if self.gpu_room < self.on_gpu:
            flag = f"`--gpus-per-trial {self.gpus:g}`: {self.on_gpu} processes would share a GPU"
            needs = f"{flag}, which need {self.on_gpu * self.gpu / GIB:.1f} GiB, and it has"
            fix = f"use --gpus-per-trial {1 / self.gpu_room:.3g}" if self.gpu_room else "not even one fits"
            found.append(f"{needs} {self.gpu_memory / GIB:.1f} GiB: {fix}")
        return found

    @staticmethod
    def _fix(room: int, at_once: int, cpus: float) -> str:
        if room == 0:
            return "not one fits: use larger nodes, or a smaller space"
        return f"use --cpus-per-trial {math.ceil(cpus * at_once / room):g}, or --concurrency"
