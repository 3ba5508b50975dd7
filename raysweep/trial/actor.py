"""The process that runs trials, one after the other: a plain Ray actor around a training function's session."""

from __future__ import annotations

import faulthandler
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from raysweep import env, temporary
from raysweep.history import checkpoint as checkpoints
from raysweep.ray_private import introduced
from raysweep.spec.function import with_data
from raysweep.trial import exits
from raysweep.trial.last_words import LastWords, Traces
from raysweep.trial.metrics import Unreported
from raysweep.trial.output import Output
from raysweep.trial.run import Run, Seat, TrialSpec
from raysweep.trial.session import Report, Session, enter
from raysweep.trial.tune_session import TuneSession
from raysweep.trial.usage import Usage, measure
from raysweep.trial.workers import Worker
from raysweep.values import finite

PROMPT_END_S = 0.005  # in which most functions return after their last report


class NotFinite(ValueError):
    """The metric is nan or infinite, and `--nan fail` was asked for."""


@dataclass(frozen=True)
class Prepared:
    """A process that is ready to run trials.

    Attributes:
        traces: where to look for what became of it, if that is known.
        gpus: Ray's ids of its GPUs.
    """

    traces: Traces | None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Over:
    """A run has come to its end: the function returned, or reported beyond its last iteration.

    Attributes:
        clean: nothing of it runs on, so that the process may run another trial.
        report: its last one, where the end came right after it: most do, and one answer costs half of two.
    """

    clean: bool = True
    report: Report | None = None


@dataclass(frozen=True)
class Printed:
    """The last lines that the newest run of a process has printed; all that it printed is stored."""

    last: tuple[str, ...]


def _own_gpus() -> tuple[str, ...]:
    """Ray's ids of the GPUs that this actor was given; one that was given none cannot see those of its node.

    Ray hides GPUs only from those who have a share of some: others would compute on the first one, in the memory of
    the trials that share it. CUDA reads the variable when it is first used, which is later: what trials share, and
    what they import, comes after.
    """
    context = ray.get_runtime_context() if ray.is_initialized() else None
    if context is None or context.get_actor_id() is None:
        return ()
    gpus = tuple(context.get_accelerator_ids()["GPU"])
    if not gpus:
        os.environ[env.CUDA_VISIBLE_DEVICES] = ""
    return gpus


class TrialActor:
    """A process that runs trials one after the other."""

    def __init__(self) -> None:
        self._gpus = _own_gpus()
        self._spec: TrialSpec
        self._train: Callable[[dict[str, Any]], None]
        self._session: Session | None = None
        self._tune: TuneSession
        self._words, self._worker = LastWords(), Worker()
        self._fetched: Path | None = None  # the folder that a run goes on from, until its function takes it
        self._output = Output(self._words.traces)

    def prepare(self, spec: TrialSpec) -> Prepared:
        """Takes what all trials share. Unpickling it imports what the training function needs."""
        self._spec, self._train = spec, spec.train
        self._output.open(spec.storage, spec.show)
        return Prepared(self._words.traces, self._gpus)

    def meeting_point(self) -> tuple[str, int]:
        """Where the workers of the trial that is started next meet: an address of this node, and a port of it."""
        return self._worker.meeting_point()

    def start(
        self, run: Run, data: list[ray.ObjectRef], seat: Seat | None = None, meets_at: tuple[str, int] | None = None
    ) -> Report | Over:
        """Begins a run, up to its first report; see `step`.

        Args:
            run: the trial's.
            data: the reference to the task's data, if any.
            seat: which of the trial's workers this is, if it has several.
            meets_at: the `meeting_point` of the first of them.
        """
        self._worker.forget_group()
        if seat is not None and meets_at is not None:
            self._worker.take(seat, meets_at)
        self._session = self._open(run, seat)
        self._train = self._with_data(data)
        return self.step()

    def step(self) -> Report | Over:
        """Runs the function up to its next report, or to its end.

        Raises:
            Exception: what the function raised.
            Exited: it called `sys.exit`, or the like.
            NotFinite: a metric is not finite, and must be.
            Unreported: the function returned without any report.
        """
        session = self._session
        assert session is not None
        outcome = session.next(self._train)
        if isinstance(outcome, Report):
            self._check_finite(outcome)
            return self._last(outcome) if outcome.iteration >= self._spec.max_iterations else outcome
        self._close()
        if outcome is not None:
            raise exits.as_exception(outcome)
        if session.iteration == 0:
            raise Unreported("the training function returned without a report: call raysweep.report({...})")
        return Over(clean=session.over)

    def _last(self, report: Report) -> Report | Over:
        session = self._session
        assert session is not None
        if not session.returns_within(PROMPT_END_S):
            return report
        self._close()
        return Over(session.over, report)

    def end(self, seconds: float) -> Over:
        """Ends the run, whose function may clean up for so many seconds."""
        clean = self._session.end(seconds) if self._session else True
        self._close()
        return Over(clean)

    def usage(self) -> Usage:
        """What this process has needed so far."""
        return measure()

    def finish(self, seconds: float) -> Printed:
        """Stores what was printed, before this process is ended; waits so many seconds for a storage that is away."""
        return Printed(self._output.finish(seconds))

    def _open(self, run: Run, seat: Seat | None) -> Session:
        spec, state = self._spec, None
        self._output.begin(run, f"worker {seat.rank}" if seat else "")
        if run.start:
            start, state = checkpoints.load_newest(spec.storage, run.start, self._new_folder)
            run = replace(run, start=start)
        session = Session(spec, run, state, leads=seat is None or seat.rank == 0)
        self._tune = TuneSession(session, spec.own_folder, seat)
        enter(session)
        introduced.enter(self._tune)
        self._words.forget()
        if spec.timeout:
            # Written in C, with a thread that needs no interpreter lock: it ends calls that hang outside of Python.
            left = max(spec.timeout - run.spent, 1.0)
            faulthandler.dump_traceback_later(left, exit=True, file=self._words.file)
        return session

    def _new_folder(self) -> Path:
        self._fetched = self._fetched or temporary.make("resume")
        return self._fetched / "checkpoint"

    def _with_data(self, data: list[ray.ObjectRef]) -> Callable[[dict[str, Any]], None]:
        """The function with its data. They are made anew for each run, so that a trial never meets what another one
        has changed; arrays of numpy are read-only views of the node's shared memory, and cost nothing.
        """
        train = with_data(self._spec.train, ray.get(data[0]) if data else None)
        return functools.partial(_call, self._tune, train, self._words)

    def _check_finite(self, report: Report) -> None:
        for name in self._spec.finite:
            value = report.metrics.get(name)
            if not finite(value):
                raise NotFinite(f"metric `{name}` is {value}: a smaller learning rate may help, or --nan stop")

    def _close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._session, self._train = None, self._spec.train  # the data of the run are let go of
        self._worker.leave()
        enter(None)
        introduced.enter(None)
        if self._fetched:
            temporary.remove(self._fetched)
            self._fetched = None
        self._output.pause()


def _call(tune: TuneSession, train: Callable[..., Any], words: LastWords, config: dict[str, Any]) -> None:
    with exits.refused(words.note):
        tune.run(train, config)
