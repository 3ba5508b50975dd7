"""The kinds of failures of a trial, which of them count towards `--max-failures`, and what follows.

exception     the function raised                            counted; `--max-failures` says how many are allowed
unreported    it ended without any report of the metric      counted
nan           the metric is not a finite number              counted, and not tried again; `--nan` can change that
timeout       `--trial-timeout` is used up                   counted
hang          no report for `--report-timeout`               the first MOST_LOSSES are not counted
lost          its process is gone                            the first MOST_LOSSES are not counted
storage       the store was unavailable for too long         the first MOST_LOSSES are not counted
refused       the storage refuses: full disk, no permission  not counted; if it persists, the sweep ends, for a resume
node          its node is gone, or was preempted             never counted
memory        the node ran out of memory                     one more try with twice the CPUs, then infeasible
gpu_memory    the GPU ran out of memory                      one more try with twice the share, then infeasible
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum

from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    UnserializableException,
)

from raysweep.errors import StorageError, Unavailable
from raysweep.loop.executor import Share
from raysweep.trial.actor import NotFinite, Unreported

# A process may die now and then; but a function that crashes its process every time is a failure.
MOST_LOSSES = 3
MOST_REFUSALS = 3  # of one trial, before the sweep ends: a single refused object does not mean a full disk
GROWTH = 2  # factor for the share of a trial that ran out of memory
_NODE_GONE = ("node has died", "node died", "node was preempted", "node is dead")


class Kind(StrEnum):
    """Why a trial ended; see the table above."""

    EXCEPTION = "exception"
    UNREPORTED = "unreported"
    NAN = "nan"
    TIMEOUT = "timeout"
    HANG = "hang"
    LOST = "lost"
    NODE = "node"
    STORAGE = "storage"
    REFUSED = "refused"
    MEMORY = "memory"
    GPU_MEMORY = "gpu_memory"


FORGIVEN = {Kind.LOST, Kind.HANG, Kind.STORAGE}
NEVER_COUNTED = {Kind.NODE, Kind.REFUSED}
OUT_OF_MEMORY = {Kind.MEMORY: "cpus", Kind.GPU_MEMORY: "gpus"}  # and the resource that is doubled


def kind_of(error: BaseException) -> Kind:
    """The kind of an error of Ray's, or of the error that it wraps."""
    if isinstance(error, OutOfMemoryError):
        return Kind.MEMORY
    if isinstance(error, RayActorError):
        gone = error.preempted or any(words in str(error) for words in _NODE_GONE)
        return Kind.NODE if gone else Kind.LOST
    if isinstance(error, RayTaskError):
        return kind_of(error.cause) if error.cause is not None else Kind.EXCEPTION
    if type(error) is RayError or isinstance(error, UnserializableException):
        return Kind.EXCEPTION  # an error of the function that could not be pickled
    if isinstance(error, RayError):
        return Kind.NODE if isinstance(error, NodeDiedError) else Kind.LOST
    return _kind_of_raised(error)


def _kind_of_raised(error: BaseException) -> Kind:
    # By its name, so that torch need not be imported.
    if type(error).__name__ == "OutOfMemoryError" and type(error).__module__.startswith("torch"):
        return Kind.GPU_MEMORY
    kinds: dict[type[BaseException], Kind] = {
        MemoryError: Kind.MEMORY,
        Unavailable: Kind.STORAGE,
        StorageError: Kind.REFUSED,
        NotFinite: Kind.NAN,
        Unreported: Kind.UNREPORTED,
    }
    return next((kind for known, kind in kinds.items() if isinstance(error, known)), Kind.EXCEPTION)


class Tries:
    """Counts the failures of one trial: decides whether it starts again, and with which resources.

    Args:
        share: its resources.
        largest: CPUs and GPUs of the largest node, up to which its share may grow.
        max_failures: how many counted failures it may have.
    """

    def __init__(self, share: Share, largest: Mapping[str, float], max_failures: int) -> None:
        self.share, self._largest, self._max_failures = share, largest, max_failures
        self._counted = self._losses = self._refusals = 0
        self._grown = False
        self.infeasible = False

    @property
    def storage_refuses(self) -> bool:
        """Whether the storage keeps refusing its checkpoints."""
        return self._refusals > MOST_REFUSALS

    def failed(self, kind: Kind) -> bool:
        """Counts a failure; returns whether the trial starts again."""
        self._refusals += kind is Kind.REFUSED
        if kind in OUT_OF_MEMORY:
            self.infeasible = not self._can_grow(OUT_OF_MEMORY[kind])
            if not self.infeasible:
                self._grow(OUT_OF_MEMORY[kind])
            return not self.infeasible
        self._counted += self._counts(kind)
        return kind is not Kind.NAN and self._counted <= self._max_failures

    def _counts(self, kind: Kind) -> bool:
        if kind in FORGIVEN and self._losses < MOST_LOSSES:
            self._losses += 1
            return False
        return kind not in NEVER_COUNTED

    def _can_grow(self, resource: str) -> bool:
        return not self._grown and getattr(self.share, resource) < self._largest.get(resource, 0.0)

    def _grow(self, resource: str) -> None:
        """Doubles the resource that it ran out of, for its next start."""
        amount = min(GROWTH * getattr(self.share, resource), self._largest.get(resource, math.inf))
        self.share = replace(self.share, **{resource: amount})
        self._grown = True

    def remember(self, kinds: Iterable[str]) -> None:
        """Counts the failures in the journal, so that a restarted driver continues from there."""
        for kind in map(Kind, kinds):
            self.failed(kind)
            # Refusals ended the earlier driver; that this one was started suggests that the storage was repaired.
            self._refusals = 0
