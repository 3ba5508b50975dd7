"""A trial, on the worker: what a training function calls, and the Ray Trainable that runs it.

The function runs in a thread of the trial's actor and is held in `report` until Tune decides whether the
trial goes on. Ray's own function trainable does the same, but it copies checkpoints with pyarrow, which
returns normally when S3 refuses a part, and it waits up to 0.2 s for the end of a function; here a
checkpoint is verified before it is reported, and a step costs one hand-over between two threads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import inspect
import numbers
import platform
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import ray
from pyarrow.fs import LocalFileSystem
from ray import tune
from ray.train._internal.checkpoint_manager import _TrainingResult
from ray.tune.result import (
    DONE,
    HOSTNAME,
    RESULT_DUPLICATE,
    TIME_THIS_ITER_S,
    TIME_TOTAL_S,
    TRAINING_ITERATION,
)

from raysweep import checkpoint as checkpoints
from raysweep.checkpoint import Checkpoint
from raysweep.failure import NotFinite, Unreported
from raysweep.state import finite
from raysweep.storage import Storage

CHECKPOINT = "checkpoint"  # key of a result: the checkpoint that holds the state after this iteration
RESTORED = "restored_from"  # key of the first result after a restore: the checkpoint that was loaded
THREAD_END_SECONDS = 5.0
NOTED_REPORTS = 1000  # at most, in a checkpoint: those since the one before it


@dataclass(frozen=True)
class TrialSpec:
    """What all trials of a sweep share; travels to each worker once.

    Attributes:
        train: the task's training function.
        data: reference to the task's data in Ray's object store, or None.
        storage: the sweep's own folder or prefix.
        max_iterations: reports after which a trial is complete.
        finite: metrics that must be finite numbers; a trial that reports another value of one fails.
        timeout: seconds that a trial may run; the process is ended even if it hangs outside of Python.
    """

    train: Callable[..., None]
    data: ray.ObjectRef | None
    storage: Storage
    max_iterations: int
    finite: tuple[str, ...] = ()
    timeout: float | None = None


class _End(SystemExit):
    """Unwinds a training function that Tune has stopped; `finally` blocks of the user's code run."""


@dataclass
class _Report:
    metrics: dict[str, Any]
    checkpoint: Checkpoint | None


class Session:
    """One run of a training function: from its start or a checkpoint to its end or a stop.

    Args:
        trial: its id.
        storage: the sweep's own folder or prefix.
        max_iterations: of a complete trial.
        start: what it goes on from.
        state: of that, if it was loaded already.
        config: the trial's.
        finite: metrics whose reports are no good if they are not finite numbers.
        spent: seconds that the trial has run before.
    """

    def __init__(
        self,
        trial: str,
        storage: Storage,
        max_iterations: int,
        start: Checkpoint | None = None,
        state: Any = None,
        *,
        config: dict[str, Any] | None = None,
        finite: tuple[str, ...] = (),
        spent: float = 0.0,
    ) -> None:
        self.trial, self.storage, self.max_iterations = trial, storage, max_iterations
        self.start, self._state = start, state
        self._config, self._finite, self._spent = config or {}, finite, spent
        self._after = start  # the newest checkpoint, and what was reported since
        self._reports: deque[dict[str, Any]] = deque(maxlen=NOTED_REPORTS)
        self._step_began = time.monotonic()
        self.iteration = start.iteration if start else 0
        self.outbox: queue.SimpleQueue[_Report | BaseException | None] = queue.SimpleQueue()
        self._go = threading.Semaphore(0)
        self._ending = False
        self._thread: threading.Thread | None = None

    def resume(self) -> Any:
        """The state of the checkpoint that this run starts from, or None."""
        state, self._state = self._state, None  # it is the caller's now, and may be large
        return checkpoints.load(self.storage, self.start) if state is None and self.start else state

    def report(self, metrics: dict[str, Any], state: Any) -> None:
        """Saves the state, hands the metrics to Tune and waits for its decision."""
        plain = _plain(metrics)
        self.iteration += 1
        took = time.monotonic() - self._step_began
        self._spent += took
        times = {TIME_THIS_ITER_S: took, TIME_TOTAL_S: self._spent}
        self._reports.append({**plain, **times, TRAINING_ITERATION: self.iteration})
        saved = None if state is None else self._save(state)
        self.outbox.put(_Report(plain, saved))
        self._go.acquire()
        if self._ending:
            raise _End

    def _save(self, state: Any) -> Checkpoint:
        note = None
        if not any(_not_finite(report, self._finite) for report in self._reports):
            # A driver that dies may lose the reports: the next one finds them here, see `unrecorded`.
            after = self._after.to_dict() if self._after else None
            note = {"after": after, "reports": list(self._reports), "config": self._config, HOSTNAME: platform.node()}
        saved = checkpoints.save(self.storage, self.trial, self.iteration, state, note)
        self._after = saved
        self._reports.clear()
        return saved

    def next(self, function: Callable[[], None]) -> _Report | BaseException | None:
        """Runs the function up to its next report; None when it returned, its exception when it raised."""
        self._step_began = time.monotonic()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(function,), name=f"trial-{self.trial}", daemon=True)
            self._thread.start()
        else:
            self._go.release()
        return self.outbox.get()

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
            self.outbox.put(None)
        except _End:
            pass
        except BaseException as error:
            self.outbox.put(error)

    def end(self) -> bool:
        """Unwinds the function; False if it does not let itself be ended."""
        self._ending = True
        self._go.release()
        if self._thread is not None:
            self._thread.join(THREAD_END_SECONDS)
            return not self._thread.is_alive()
        return True


_session: Session | None = None


def _current(caller: str) -> Session:
    if _session is None:
        raise RuntimeError(f"raysweep.{caller}() works inside a trial: run the function with raysweep.run or a job")
    return _session


def resume() -> Any:
    """The `state` of this trial's last checkpoint, or None when it starts from the beginning.

    After an exploit of population based training this is the donor's state. A checkpoint that is damaged or gone is
    passed over for the one before it.
    """
    return _current("resume").resume()


def iterations() -> Iterator[int]:
    """The numbers of the iterations still to do, from 1 or from the one after the checkpoint."""
    session = _current("iterations")
    return iter(range(session.iteration + 1, session.max_iterations + 1))


def report(metrics: dict[str, Any], state: Any = None) -> None:
    """Reports one iteration, and saves `state` as a verified checkpoint.

    Returns when Tune lets the trial go on; does not return when Tune stops it.

    Args:
        metrics: name -> number or text; the sweep's metric among them.
        state: any object that can be pickled, from which `resume` continues; None saves nothing.

    Raises:
        StorageError: the checkpoint could not be written and verified.
        TypeError: a metric is neither a number nor text, by name.
    """
    _current("report").report(metrics, state)


def _plain(metrics: dict[str, Any]) -> dict[str, Any]:
    plain = {}
    for key, value in metrics.items():
        with contextlib.suppress(ValueError, RuntimeError):  # an array of several numbers has no item
            value = value.item() if hasattr(value, "item") else value
        if not isinstance(value, numbers.Number | str):
            raise TypeError(f"report: metric `{key}` is a {type(value).__name__}: give a number or a text")
        plain[key] = value
    return plain


def _not_finite(metrics: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [name for name in names if not finite(metrics.get(name))]


def _check_finite(metrics: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in _not_finite(metrics, names):
        raise NotFinite(f"metric `{name}` is {metrics[name]}: a smaller learning rate may help, or --nan stop")


@functools.lru_cache(maxsize=1)
def _data(reference: ray.ObjectRef) -> Any:
    # An actor that is reused for the next trial keeps the data it has; arrays are views of shared memory.
    return ray.get(reference)


def pointer(saved: Checkpoint, metrics: dict[str, Any]) -> _TrainingResult:
    """How a checkpoint looks to Ray: an opaque path that Ray hands around and never reads, copies or deletes.

    Args:
        saved: the checkpoint.
        metrics: those of its iteration. A restore makes them the trial's last result, which is its final one if its
            function returns at once.
    """
    own = {TRAINING_ITERATION: saved.iteration, CHECKPOINT: saved.to_dict()}
    result = {TIME_TOTAL_S: 0.0, **metrics, **own}
    return _TrainingResult(tune.Checkpoint(path=saved.key, filesystem=LocalFileSystem()), result)


class TrialActor(tune.Trainable):
    """Ray's Trainable around a training function; `trainable` binds it to one sweep."""

    spec: ClassVar[TrialSpec]

    def setup(self, config: dict[str, Any]) -> None:
        """Called by Ray with the trial's configuration."""
        self._session: Session | None = None
        self._start: Checkpoint | None = None
        self._saved: Checkpoint | None = None
        self._saved_with: dict[str, Any] = {}  # metrics

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Ray to give this actor to another trial, or to this trial changed by PBT."""
        ended = self._end_session()
        self._start = self._saved = None
        return ended

    def step(self) -> dict[str, Any]:
        """Runs the function up to its next report.

        Raises:
            Exception: what the function raised.
            RuntimeError: the function returned without any report.
        """
        restored = self._open_session() if self._session is None else None
        assert self._session is not None
        outcome = self._session.next(self._function())
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            return self._returned()
        _check_finite(outcome.metrics, self.spec.finite)
        if outcome.checkpoint:
            self._saved, self._saved_with = outcome.checkpoint, outcome.metrics
        saved = outcome.checkpoint.to_dict() if outcome.checkpoint else None
        return {**outcome.metrics, CHECKPOINT: saved, RESTORED: restored}

    def _function(self) -> Callable[[], None]:
        arguments: list[Any] = [dict(self.config)]
        if len(inspect.signature(self.spec.train).parameters) > 1:
            arguments.append(_data(self.spec.data) if self.spec.data is not None else None)
        return functools.partial(self.spec.train, *arguments)

    def _returned(self) -> dict[str, Any]:
        if self._iteration == 0:
            raise Unreported("the training function returned without a report: call raysweep.report({...})")
        return {RESULT_DUPLICATE: True, DONE: True}

    def _open_session(self) -> dict[str, Any] | None:
        global _session
        state = None
        if self._start:
            self._start, state = checkpoints.load_newest(self.spec.storage, self._start)
            self._iteration = self._start.iteration if self._start else 0
        self._session = _session = Session(
            self.trial_id,
            self.spec.storage,
            self.spec.max_iterations,
            self._start,
            state,
            config=self.config,
            finite=self.spec.finite,
            spent=self._time_total,
        )
        if self.spec.timeout:
            left = max(self.spec.timeout - self._time_total, 1.0)
            # Written in C, with a thread that needs no interpreter lock: it ends calls that hang outside of Python.
            faulthandler.dump_traceback_later(left, exit=True, file=sys.__stderr__ or 2)
        return self._start.to_dict() if self._start else None

    def _end_session(self) -> bool:
        global _session
        faulthandler.cancel_dump_traceback_later()
        ended = self._session.end() if self._session else True
        self._session = _session = None
        return ended

    def save(self, checkpoint_dir: str | None = None) -> _TrainingResult:
        """Called by Ray when it pauses or clones a trial: the newest verified checkpoint."""
        if self._saved is None:
            return _TrainingResult(None, dict(self._last_result or {}))
        return pointer(self._saved, {**self._saved_with, TIME_TOTAL_S: self._time_total})

    def restore(self, checkpoint_path: Any) -> None:
        """Called by Ray before the first step of a trial that continues from a checkpoint."""
        self._start = self._saved = Checkpoint.from_dict(checkpoint_path.metrics[CHECKPOINT])
        self._saved_with = dict(checkpoint_path.metrics)
        self._iteration = self._start.iteration
        self._time_total = checkpoint_path.metrics.get(TIME_TOTAL_S, 0.0)
        self._restored = True

    def cleanup(self) -> None:
        """Called by Ray when the actor is no longer needed."""
        self._end_session()


def trainable(shared: TrialSpec, name: str) -> type[TrialActor]:
    """The Trainable of one sweep; Ray shows its trials under `name`."""
    return type(name, (TrialActor,), {"spec": shared})
