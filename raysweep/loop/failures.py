"""The kinds of failures of a trial, which of them count towards `--max-failures`, and what follows.

exception     the function raised, or called an exit         counted; `--max-failures` says how many are allowed
unreported    it ended without any report of the metric      counted
nan           the metric is not a finite number              counted, and not tried again; `--nan` can change that
timeout       `--trial-timeout` is used up                   counted
hang          no report for `--report-timeout`               the first MOST_LOSSES are not counted
lost          its process is gone                            the first MOST_LOSSES are not counted
storage       the store was unavailable for too long         the first MOST_LOSSES are not counted
full          its node has no space left, outside the store  the first MOST_LOSSES are not counted; it goes elsewhere
refused       the storage refuses: full disk, no permission  not counted; if it persists, the sweep ends, for a resume
node          its node is gone, or was preempted             never counted
memory        the node ran out of memory                     one more try with twice the CPUs, then infeasible
gpu_memory    the GPU ran out of memory                      one more try with twice the share, then infeasible
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum

import click
from ray.exceptions import (
    NodeDiedError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    UnserializableException,
)

from raysweep import env
from raysweep.errors import StorageError, Unavailable
from raysweep.loop.executor import Share
from raysweep.trial.actor import NotFinite
from raysweep.trial.last_words import BY_ITSELF, TIME_UP
from raysweep.trial.metrics import Unreported

# A process may die now and then; but a function that crashes its process every time is a failure.
MOST_LOSSES = 3
MOST_REFUSALS = 3  # of one trial, before the sweep ends: a single refused object does not mean a full disk
GROWTH = 2  # factor for the share of a trial that ran out of memory
UNKNOWN = (
    "from outside, and it left no word: usually by SIGKILL, from the system when memory ran out (`dmesg` on the node"
    " tells), or from somebody"
)
_NO_REASON = "unexpectedly exits with a connection error"  # Ray's words, when it does not know
# ENOSPC and EDQUOT, in a traceback or in what a library in C says: they may be the cause of another exception.
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_OF_THE_STORE = StorageError.__name__  # in the traceback of a full store, which is none of the node
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
    FULL = "full"
    REFUSED = "refused"
    MEMORY = "memory"
    GPU_MEMORY = "gpu_memory"


FORGIVEN = {Kind.LOST, Kind.HANG, Kind.STORAGE, Kind.FULL}
NEVER_COUNTED = {Kind.NODE, Kind.REFUSED}
OUT_OF_MEMORY = {Kind.MEMORY: "cpus", Kind.GPU_MEMORY: "gpus"}  # and the resource that is doubled


def kind_of(error: BaseException) -> Kind:
    """The kind of an error of Ray's, or of the error that it wraps."""
    if isinstance(error, OutOfMemoryError):
        return Kind.MEMORY
    if isinstance(error, OutOfDiskError):
        return Kind.FULL
    if isinstance(error, RayActorError):
        gone = error.preempted or any(words in str(error) for words in _NODE_GONE)
        return Kind.NODE if gone else _unless_full(Kind.LOST, error)
    if isinstance(error, RayTaskError):
        kind = kind_of(error.cause) if error.cause is not None else Kind.EXCEPTION
        return _unless_full(kind, error) if kind is Kind.EXCEPTION else kind
    if type(error) is RayError or isinstance(error, UnserializableException):
        return _unless_full(Kind.EXCEPTION, error)  # an error of the function that could not be pickled
    if isinstance(error, RayError):
        return Kind.NODE if isinstance(error, NodeDiedError) else Kind.LOST
    return _kind_of_raised(error)


def _unless_full(kind: Kind, error: BaseException) -> Kind:
    text = str(error)
    return Kind.FULL if _NO_SPACE.search(text) and _OF_THE_STORE not in text else kind


def is_alive(error: BaseException) -> bool:
    """Whether the process that an error of Ray's comes from still answers: a function of it raised."""
    return isinstance(error, RayTaskError | UnserializableException) or type(error) is RayError


def kind_of_loss(end: str, hung: bool, late: bool) -> Kind:
    """The kind of a loss of a process.

    Args:
        end: how it ended, if it has noted that; see `executor.Failed`.
        hung: whether it was ended since it was silent.
        late: whether the trial's time is used up.
    """
    if hung:
        return Kind.HANG
    if end.startswith(f"{BY_ITSELF}os."):  # `os._exit` in another thread: no loss, but what the function does
        return Kind.EXCEPTION
    return Kind.TIMEOUT if end.startswith(TIME_UP) or (late and not end) else Kind.LOST


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
    known = next((kind for type_, kind in kinds.items() if isinstance(error, type_)), None)
    return known or _unless_full(Kind.EXCEPTION, error)


# What Ray says of any end, or advises, behind what it says of this one.
_ADVICE = re.compile(r" Some common causes include| To see the logs|; to see more information| Top \d+ memory users")


def text_of(
    error: BaseException, kind: Kind, end: str = "", log: str = "", worker: int | None = None, host: str = ""
) -> str:
    """A failure as it is written to the journal: the function's traceback, or how its process ended, in one paragraph.

    Args:
        error: of Ray's, or the one that it wraps.
        kind: its kind, which may be known better than from the error.
        end: how the process ended, if it has noted that; see `executor.Failed`.
        log: where Ray's log of the process is.
        worker: the rank of the worker that it was, if the trial has several; it begins the last line.
        host: the address of its node, if that is known.
    """
    told = _text_of(error, kind, end, log) + (f"\n{_full(host)}" if kind is Kind.FULL else "")
    before, line, last = told.rpartition("\n")
    return f"{before}{line}{last if worker is None else f'worker {worker}: {last}'}"


def _full(host: str) -> str:
    return (
        f"node {host or 'of the trial'} has no space left, which is no failure of the trial: free some there, or give"
        f" it more (docker: {env.RAYSWEEP_TMP}=8g raysweep cluster up --target docker)"
    )


def _text_of(error: BaseException, kind: Kind, end: str, log: str) -> str:
    if isinstance(error, RayTaskError):
        return click.unstyle(str(error)).strip()
    if not isinstance(error, RayError) or is_alive(error):
        return f"{type(error).__name__}: {error}".strip()
    where = f"; Ray's log of it is {log}" if log else ""
    if kind is Kind.HANG:
        return f"the trial was silent for too long (see --report-timeout), so its process was ended{where}"
    if kind is Kind.TIMEOUT:
        return f"the trial had used up --trial-timeout, so its process was ended{end.removeprefix(TIME_UP)}{where}"
    if end:
        return f"the trial's process was ended {end}{where}"
    if isinstance(error, RayActorError) and log and _NO_REASON in str(error):
        return f"the trial's process was ended {UNKNOWN}{where}"
    return f"the trial's process was lost: {_paragraph(error)}{where}"


def _paragraph(error: RayError) -> str:
    """Ray's text without its table of ids, and without its general advice."""
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith("\t")]
    return _ADVICE.split(" ".join(filter(None, lines)))[0]


class Tries:
    """Counts the failures of one trial: decides whether it starts again, and with which resources.

    Args:
        share: its resources.
        largest: CPUs and GPUs that each of its workers can have at most, up to which its share may grow.
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
