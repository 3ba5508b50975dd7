"""Why a trial came to an end that it did not choose, which of these ends count against it, and what is done then.

exception     the function raised                            counted; `--max-failures` says how many are allowed
unreported    it returned without any report                 counted
nan           the metric is not a finite number              counted, and not tried again; `--nan` chooses otherwise
timeout       `--trial-timeout` is used up                   counted
hang          no report for `--report-timeout`               the first MOST_LOSSES are not counted
lost          its process is gone                            the first MOST_LOSSES are not counted
storage       the store stayed away longer than patience     the first MOST_LOSSES are not counted
refused       the storage refuses: full disk, no permission  not counted; when it goes on, the sweep ends, for a resume
node          its node is gone, or was taken back            never counted
memory        the node ran out of memory                     once again with twice the CPUs, then infeasible
gpu_memory    the GPU ran out of memory                      once again with twice the share, then infeasible
"""

from __future__ import annotations

import importlib
import math
import time
from enum import StrEnum
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune import PlacementGroupFactory
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.result import TIME_TOTAL_S

from raysweep.errors import StorageError, Unavailable

# A process that dies now and then is forgiven; a function that ends its process each time is a failure.
MOST_LOSSES = 3
MOST_REFUSALS = 3  # of one trial, before the sweep ends: one object that is refused is no full disk
GROWTH = 2  # of the share of a trial that ran out of memory
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
OUT_OF_MEMORY = {Kind.MEMORY: "CPU", Kind.GPU_MEMORY: "GPU"}  # and what is given twice of


class NotFinite(ValueError):
    """The metric is nan or infinite, and `--nan fail` was asked for."""


class Unreported(RuntimeError):
    """The training function returned and had reported nothing."""


class Killed(RayActorError):
    """Ray ended an actor for a reason that it does not tell as an actor's error, such as the node's memory."""

    def __init__(self, reason: RayError) -> None:
        super().__init__(error_msg=str(reason))
        self.reason = reason


class ActorManager(RayActorManager):
    """Ray's, which hears of an actor that was killed for memory as of any other that is dead.

    Ray's own knows errors of actors and of tasks only, raises at the third kind, and with that ends the whole sweep
    (`_actor_task_failed` in python/ray/air/execution/_internal/actor_manager.py).
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = Killed(exception)
        super()._actor_task_failed(tracked_actor_task, exception)


class Controller(TuneController):
    """Ray's, in which a trial survives the death of an actor that is being reset for it.

    Ray hands such a death to the trial as the actor's, and again as the failed call's: the first starts the trial
    again, and the second finds it waiting for that, and ends it as failed. And the trial would wait for ever, since
    it stays among those that an actor is being reset for (`_actor_task_failed`, `_process_trial_failure` and
    `_maybe_reuse_cached_actor` in python/ray/tune/execution).
    """

    _last: tuple[Trial, BaseException] | None = None

    def _process_trial_failure(self, trial: Trial, exception: BaseException) -> None:
        last, self._last = self._last, (trial, exception)
        if last is None or last[0] is not trial or last[1] is not exception:
            self._resetting_trials.discard(trial)
            super()._process_trial_failure(trial, exception)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_last"}


tune_controller.RayActorManager = ActorManager
importlib.import_module("ray.tune.tune").TuneController = Controller  # type: ignore[attr-defined]


def kind_of(error: BaseException | None) -> Kind:
    """The kind that an error of Ray's, or the one that it wraps, belongs to."""
    if isinstance(error, Killed):
        return _kind_of_kill(error.reason)
    if isinstance(error, RayActorError):
        gone = error.preempted or any(words in str(error) for words in _NODE_GONE)
        return Kind.NODE if gone else Kind.LOST
    if isinstance(error, RayTaskError):
        return kind_of(error.cause) if error.cause is not None else Kind.EXCEPTION
    return _kind_of_raised(error)


def _kind_of_kill(reason: RayError) -> Kind:
    if isinstance(reason, OutOfMemoryError):
        return Kind.MEMORY
    return Kind.NODE if isinstance(reason, NodeDiedError) else Kind.LOST


def _kind_of_raised(error: BaseException | None) -> Kind:
    # torch is not imported for this: its error is known by its name.
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


class RecoveringTrial(Trial):
    """Ray's trial, which starts again from its last checkpoint when what happened was not its failure.

    Ray counts a dead machine like an exception of the function, so that with `max_failures=0` one of them ends the
    trials that it ran; and it starts a trial that ran out of memory again with as much as before.

    Attributes:
        timeout: seconds that it may run.
        most: the largest node's CPUs and GPUs, up to which its share may grow.
        kind: why it ended last.
        losses: how many ends were forgiven.
        refusals: how often the storage refused its checkpoint.
        silent: the reaper has ended it.
        refused: why the storage refused its checkpoint for good.
    """

    timeout = math.inf
    _until = math.inf  # when the time of this run of it will be used up, by the wall clock
    most: dict[str, float] = {}  # noqa: RUF012 - replaced, never changed
    kind: Kind | None = None
    losses = 0
    refusals = 0
    grown = False
    silent = False
    infeasible = False
    refused: str | None = None

    @classmethod
    def of(cls, trial: Trial, timeout: float | None, most: dict[str, float] | None = None) -> RecoveringTrial:
        """A trial of Ray's, made into one of these; `timeout` in seconds."""
        trial.__class__ = cls  # Ray has one way to make a trial from a spec, and it names its own class
        trial.timeout, trial.most = timeout or math.inf, most or {}
        return trial

    @property
    def path(self) -> str | None:
        """Asked by Ray at the end: its own folder of the trial, which one that did not run in this life has not got."""
        return super().path if self.storage is not None and self.storage.trial_dir_name else None

    def set_status(self, status: str) -> None:
        """Called by Ray. A trial's time runs while it does, and not while it is paused or waits for room."""
        if status == Trial.RUNNING != self.status:
            saved = self.run_metadata.checkpoint_manager.latest_checkpoint_result
            used = saved.metrics.get(TIME_TOTAL_S, 0.0) if saved else 0.0
            self._until = time.time() + self.timeout - used
        super().set_status(status)

    def handle_error(self, exc: Any = None) -> None:
        """Called by Ray when the trial's actor raised, or is gone."""
        counted = self.run_metadata.num_failures
        super().handle_error(exc)
        self.kind = self._kind(exc)
        if self.kind is Kind.REFUSED:
            self.refusals += 1
            self.refused = str(getattr(exc, "cause", exc)) if self.refusals > MOST_REFUSALS else None
        self.infeasible = self.kind in OUT_OF_MEMORY and not self._can_grow()
        if not self._counts(self.kind):
            self.run_metadata.num_failures = counted
        self.silent = False

    def _kind(self, exc: Any) -> Kind:
        kind = kind_of(exc)
        if kind is Kind.LOST and self.silent:
            return Kind.HANG
        return Kind.TIMEOUT if kind is Kind.LOST and self._time_is_up() else kind

    def _counts(self, kind: Kind) -> bool:
        """Whether an end of this kind is one more failure."""
        if kind in FORGIVEN and self.losses < MOST_LOSSES:
            self.losses += 1
            return False
        return kind not in NEVER_COUNTED and kind not in OUT_OF_MEMORY

    def should_recover(self) -> bool:
        """Asked by Ray after `handle_error`: whether the trial starts again."""
        hopeless = self.infeasible or self.kind is Kind.NAN
        return not hopeless and bool(super().should_recover())

    def _can_grow(self) -> bool:
        resource = OUT_OF_MEMORY[self.kind] if self.kind else "CPU"
        return not self.grown and self.share(resource) < self.most.get(resource, 0)

    def share(self, resource: str) -> float:
        """CPUs or GPUs that it asks for."""
        return float(self.placement_group_factory.required_resources.get(resource, 0))

    def grow(self, kind: Kind) -> None:
        """Twice the share of what it ran out of, for its next start; the trial does not run now."""
        resource = OUT_OF_MEMORY[kind]
        bundle = dict(self.placement_group_factory.required_resources)
        bundle[resource] = min(GROWTH * self.share(resource), self.most.get(resource, math.inf))
        self.update_resources(PlacementGroupFactory([bundle]))
        self.grown = True

    def remember(self, kinds: list[str]) -> None:
        """What the journal says of its failures: a driver that starts again counts on from there."""
        for kind in map(Kind, kinds):
            if kind in OUT_OF_MEMORY:
                self.grow(kind)
            self.run_metadata.num_failures += self._counts(kind)

    def _time_is_up(self) -> bool:
        return time.time() >= self._until
