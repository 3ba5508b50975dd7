"""The main loop of a sweep. Fill free places; wait for the next events; decide; journal; notify the observers.

Other parts do the rest: the searcher and Ray Tune's scheduler, behind the controller, decide; the executor runs trials;
the recorder writes the journal, which is the authoritative record, before searcher and observers are notified.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from raysweep.errors import SweepFailed
from raysweep.history.checkpoint import owner
from raysweep.history.sweep_state import BY_LIMIT, BY_SCHEDULER, TrialRecord
from raysweep.loop.controller import Controller, Decision
from raysweep.loop.executor import Event, Executor, Failed, Reported, Returned, Share
from raysweep.loop.failures import Kind, Tries, kind_of, kind_of_loss, text_of
from raysweep.loop.hang_watchdog import HangWatchdog
from raysweep.loop.interrupt import Interruption
from raysweep.loop.observers import Observer
from raysweep.loop.recorder import Recorder
from raysweep.loop.searcher import STOPPED, Remembering, Resumable
from raysweep.loop.stopping import Spending, SweepLimits
from raysweep.spec.configuration import Codec
from raysweep.trial.run import Run
from raysweep.values import TIME_TOTAL_S, TRAINING_ITERATION

ENDED_BY = {Decision.STOP: BY_SCHEDULER, Decision.LIMIT: BY_LIMIT, Decision.COMPLETE: BY_LIMIT}
CHECK_S = 1.0  # between two checks for what causes no event: hung trials, a long wait for a place


@dataclass(frozen=True)
class Plan:
    """The settings of a sweep that the loop needs.

    Attributes:
        total: trials of the whole sweep.
        max_iterations: iterations of a complete trial.
        metrics: the metrics that are optimised.
        concurrency: trials at the same time, at most.
        space: of Ray's domains, from which the configurations are.
        together: whether all trials are suggested at the start, since the scheduler compares all of them.
        share: the resources of a trial.
        largest: CPUs and GPUs that each worker of a trial can have at most, up to which its share may grow.
        max_failures: how many counted failures a trial may have.
        timeout: seconds that a trial may run.
        report_timeout: seconds without a report, after which a trial counts as hung.
        time_budget: seconds that the sweep may run.
        spending: what it may cost, if that is limited.
        retry: which failed trials of earlier runs are tried again: "failed" for all, or a `failures.Kind`.
    """

    total: int
    max_iterations: int
    metrics: tuple[str, ...]
    concurrency: int
    space: Mapping[str, Any] = field(default_factory=dict)
    together: bool = False
    share: Share = field(default_factory=lambda: Share(1.0))
    largest: Mapping[str, float] = field(default_factory=dict)
    max_failures: int = 0
    timeout: float | None = None
    report_timeout: float | None = None
    time_budget: float | None = None
    spending: Spending | None = None
    retry: str | None = None


class Loop:
    """One run of a sweep's main loop, from an empty or existing journal to the end of all trials.

    Args:
        plan: the settings.
        searcher: Ray's, with metric, mode and space set.
        controller: the trials, and the scheduler that decides about them.
        executor: runs the trials.
        recorder: writes the journal; its state holds the trials of earlier runs.
        observer: is notified after each event.
    """

    def __init__(
        self,
        plan: Plan,
        searcher: Searcher,
        controller: Controller,
        executor: Executor,
        recorder: Recorder,
        observer: Observer,
    ) -> None:
        self._plan, self._searcher, self._controller = plan, searcher, controller
        self._executor, self._recorder, self._observer = executor, recorder, observer
        self._state, self._codec = recorder.state, Codec(plan.space)
        self.limits = SweepLimits(plan.time_budget, plan.total, executor.clock, plan.spending)
        self._watchdog = HangWatchdog(plan.report_timeout)
        self._interruption = Interruption()
        self._running: dict[str, Run] = {}
        self._tries: dict[str, Tries] = {}
        self._unstarted: set[str] = set()  # trials of this run of the loop that have not been started yet
        self._hung: set[str] = set()
        self._deadlines: dict[str, float] = {}  # when a running trial's timeout is reached
        self._finishing: set[str] = set()  # running trials that have done all their iterations
        self._to_finish: deque[str] = deque()  # such trials, whose code after the last iteration failed and is retried
        self._suggested_all = False
        self._remembering = searcher if isinstance(searcher, Remembering) else None  # isinstance of a Protocol is slow
        self._last_check, self._idle_since = -math.inf, executor.clock()

    def run(self) -> None:
        """Runs all trials to their ends, or until the sweep has to end early.

        Raises:
            SweepFailed: no trial is running, and none can ever start.
        """
        self._take_over()
        with self._interruption:
            while self._should_continue():
                self._fill_places()
                self.limits.running = len(self._running)
                for event in self._executor.wait(CHECK_S):
                    self._handle(event)
                self._check_periodically()

    # Before the first turn.

    def _take_over(self) -> None:
        """Takes over the trials of the journal: replays it to the scheduler, and passes them to the searcher."""
        for record in self._state.trials.values():
            if self._is_tried_again(record):
                self._recorder.retried(record.id)
        for record in self._state.unfinished:
            if self._is_complete(record) and self._can_finish(record):
                self._to_finish.append(record.id)  # its code after the last iteration may not have run to its end
            elif self._is_complete(record) or record.stop_decided:
                self._end(record, self._status(record))  # the previous driver was killed before it could do so
        records = list(self._state.trials.values())
        self._controller.replay(self._state.take_events())
        for record in self._state.unfinished:
            ended = self._controller.trials[record.id].is_finished()  # because of an adopted result
            if ended and record.id not in self._to_finish:
                self._end(record, self._status(record))
        self._controller.take_stopped()
        if isinstance(self._searcher, Resumable):
            self._searcher.begin(records)
        for record in self._state.unfinished:
            self._tries[record.id] = self._new_tries()
            self._tries[record.id].remember(record.kinds[record.retried :])
        while self._plan.together and self._suggest():
            pass

    def _is_tried_again(self, record: TrialRecord) -> bool:
        """Whether a trial failed in an earlier run in a way that was requested to be tried again."""
        failed = record.failed and self._plan.retry in ("failed", record.kinds[-1])
        return failed and (not self._is_complete(record) or self._can_finish(record))

    def _status(self, record: TrialRecord) -> str:
        return "finished" if self._is_complete(record) else "stopped"

    def _is_complete(self, record: TrialRecord) -> bool:
        """Whether a trial has done all its iterations; its function may have code to run after them."""
        return record.last is not None and record.last.iteration >= self._plan.max_iterations

    def _can_finish(self, record: TrialRecord) -> bool:
        """Whether a complete trial's code after its last iteration can run again, without repeating an iteration."""
        saved = record.own_checkpoint
        return saved is not None and saved.iteration >= self._plan.max_iterations

    # Fill free places.

    def _should_continue(self) -> bool:
        if self._interruption.over or (self._interruption.requested and not self._running):
            return False
        return not self.limits.reached and bool(self._running or self._to_finish or self._left())

    def _left(self) -> int:
        """The number of trials that have not ended, or not been started."""
        unsuggested = 0 if self._suggested_all else max(self._plan.total - len(self._state.trials), 0)
        return len(self._controller.live) + unsuggested

    def _fill_places(self) -> None:
        if self._interruption.requested:
            return
        left = self._left() + len(self._finishing) + len(self._to_finish)
        self._executor.request_places(min(self._plan.concurrency, left))
        while self._executor.has_place and not self._interruption.requested:
            trial = self._next()
            if trial is None:
                self._check_not_stuck()
                return
            self._start(trial)

    def _next(self) -> Trial | None:
        """The scheduler's choice among the waiting trials, else the searcher's next suggestion."""
        if self._to_finish:
            return self._controller.trials[self._to_finish.popleft()]
        if len(self._controller.live) > len(self._running) - len(self._finishing):
            chosen = self._controller.choose()
            if chosen is not None:
                return chosen
        return self._controller.choose() if self._suggest() else None

    def _suggest(self) -> bool:
        """Adds the searcher's next suggestion; returns whether there was one."""
        if self._suggested_all or len(self._state.trials) >= self._plan.total:
            return False
        trial_id = f"{len(self._state.trials):05d}"
        config = self._searcher.suggest(trial_id)
        if config is None or config == Searcher.FINISHED:
            self._suggested_all = config is not None
            return False
        memory = self._remembering.memory(trial_id) if self._remembering else {}
        written = self._codec.write(config)
        self._recorder.suggested(trial_id, written, memory)
        self._controller.add(trial_id, written)
        self._tries[trial_id] = self._new_tries()
        self._unstarted.add(trial_id)
        return True

    def _new_tries(self) -> Tries:
        return Tries(self._plan.share, self._plan.largest, self._plan.max_failures)

    def _start(self, trial: Trial) -> None:
        trial_id, now = trial.trial_id, self._executor.clock()
        saved = self._controller.continues_from(trial_id)
        # The journal knows which of a trial's own checkpoints are intact; another trial's comes from the scheduler.
        is_exploit = saved is not None and owner(saved.path) != trial_id
        name = saved.name if saved is not None and is_exploit else self._state.trials[trial_id].checkpoint
        spent = saved.metrics.get(TIME_TOTAL_S, 0.0) if saved and name else 0.0
        first = trial_id in self._unstarted
        self._unstarted.discard(trial_id)
        run = Run(trial_id, self._codec.restore(trial.config), trial.config, name, spent, first)
        if trial.is_finished():
            self._finishing.add(trial_id)
        else:
            self._controller.started(trial_id)
        self._running[trial_id] = run
        self._deadlines[trial_id] = now + (self._plan.timeout or math.inf) - spent
        self._watchdog.started(trial_id, now)
        share = self._tries[trial_id].share
        self._executor.start(run, None if share == self._plan.share else share)

    def _check_not_stuck(self) -> None:
        if not self._running and self._left():
            waiting = len(self._controller.live)
            raise SweepFailed(
                f"{self._left()} trials are left and none can start: {type(self._controller.scheduler.ray).__name__}"
                f" lets none of the {waiting} waiting trials continue, and the search suggests no other: the results of"
                " the ended trials are safe; please report this with the sweep's journal"
            )

    # Events.

    def _handle(self, event: Event) -> None:
        if event.trial not in self._running:
            return  # the trial was ended in the meantime
        if isinstance(event, Reported):
            self._on_report(event)
        elif isinstance(event, Returned):
            self._on_return(event.trial)
        else:
            self._on_failure(event)

    def _on_report(self, event: Reported) -> None:
        trial_id, report, config = event.trial, event.report, self._running[event.trial].written
        result = {**report.metrics, TRAINING_ITERATION: report.iteration}
        decision = self._controller.report(trial_id, result, report.checkpoint)
        ended_by = ENDED_BY.get(decision)
        newest = self._recorder.reported(trial_id, report, config, **({"stop": ended_by} if ended_by else {}))
        record = self._state.trials[trial_id]
        self.limits.reported()
        self._watchdog.reported(trial_id, self._executor.clock())
        if all(name in report.metrics for name in self._plan.metrics):
            self._searcher.on_trial_result(trial_id, result)
        self._observer.reported(record, newest)
        if report.checkpoint:
            self._recorder.expire(record, self._controller.needed)
        self._carry_out(trial_id, decision)
        for other in self._controller.take_stopped():
            self._complete(other, "stopped")

    def _carry_out(self, trial_id: str, decision: Decision) -> None:
        if decision is Decision.COMPLETE:
            self._finishing.add(trial_id)
        if decision is Decision.COMPLETE or (decision is Decision.GO_ON and not self._interruption.requested):
            self._executor.step(trial_id)
            return
        self._remove_running(trial_id)
        self._executor.stop(trial_id)
        if decision in (Decision.STOP, Decision.LIMIT):
            self._complete(trial_id, "stopped")
        elif decision is Decision.GO_ON:
            self._controller.requeue(trial_id)  # it waits for a resume

    def _remove_running(self, trial_id: str) -> None:
        del self._running[trial_id], self._deadlines[trial_id]
        self._finishing.discard(trial_id)
        self._watchdog.ended(trial_id)

    def _on_return(self, trial_id: str) -> None:
        self._remove_running(trial_id)
        self._controller.end(trial_id)
        self._complete(trial_id, "finished")

    def _complete(self, trial_id: str, status: str) -> None:
        """Journals the end of a trial, and of those that the scheduler ended with it; then notifies the searcher and
        the observers.
        """
        record = self._state.trials[trial_id]
        if record.ended:
            return  # the scheduler ended it twice: by its decision, and by calling `stop_trial`
        if trial_id in self._running:  # a scheduler may end any trial
            self._remove_running(trial_id)
            self._executor.stop(trial_id)
        status = self._end(record, status)
        result = record.last_with(self._plan.metrics)
        last_result = {} if result is None else {**result.metrics, TRAINING_ITERATION: result.iteration}
        if status != "finished":
            last_result[STOPPED] = True
        self._searcher.on_trial_complete(trial_id, result=last_result or None, error=status == "failed")
        for other in self._controller.take_stopped():
            self._complete(other, "stopped")

    def _end(self, record: TrialRecord, status: str) -> str:
        """Journals the end of a trial and notifies the observers; returns its status, `failed` if it never reported
        the metrics.
        """
        if status in ("finished", "stopped") and not record.has_reported(self._plan.metrics):
            self._recorder.failed(record.id, self._unreported_message(record), Kind.UNREPORTED)
            self.limits.failed(record)
            status = "failed"
        self._recorder.completed(record.id, status)
        self._tries.pop(record.id, None)
        self._observer.ended(record)
        return status

    def _unreported_message(self, record: TrialRecord) -> str:
        metrics = ", ".join(f"`{name}`" for name in self._plan.metrics)
        reported = ", ".join(record.last.metrics) if record.last else "nothing"
        return f"Unreported: the trial ended, and no report of it had {metrics}; the last one had {reported}"

    # Failures.

    def _on_failure(self, event: Failed) -> None:
        trial_id, error = event.trial, event.error
        record, tries, kind = self._state.trials[trial_id], self._tries[trial_id], self._kind(event)
        self._remove_running(trial_id)
        complete = self._is_complete(record)
        if complete and kind in (Kind.LOST, Kind.NODE, Kind.HANG, Kind.FULL) and not self._can_finish(record):
            self._complete(trial_id, "finished")  # none of its iterations is lost
            return
        again = tries.failed(kind) and (not complete or self._can_finish(record))
        if tries.storage_refuses:
            self.limits.refused = self.limits.refused or str(getattr(error, "cause", error))
        told = text_of(error, kind, event.end, event.log, event.worker, event.host)
        self._recorder.failed(trial_id, told, kind, event.printed)
        self._observer.failed(record, again)
        if not again:
            self._controller.end(trial_id, failed=True)
            self.limits.failed(record)
            self._complete(trial_id, "infeasible" if tries.infeasible else "failed")
        elif complete:
            self._to_finish.append(trial_id)
        else:
            self._controller.requeue(trial_id)

    def _kind(self, event: Failed) -> Kind:
        kind, hung = kind_of(event.error), event.trial in self._hung
        self._hung.discard(event.trial)
        late = self._executor.clock() >= self._deadlines[event.trial]
        return kind_of_loss(event.end, hung, late) if kind is Kind.LOST else kind

    # Periodic checks.

    def _check_periodically(self) -> None:
        now = self._executor.clock()
        if now - self._last_check < CHECK_S:
            return
        self._last_check = now
        self._recorder.check_lease()
        self._observer.turn()
        for trial_id, seconds in self._watchdog.silent(now):
            click.echo(f"trial {trial_id} has been silent for {seconds:.0f} s: its process is ended")
            self._hung.add(trial_id)
            self._executor.kill(trial_id)
        if self._running:
            self._idle_since = now
        elif now - self._idle_since >= CHECK_S:
            self._observer.waited(now - self._idle_since, self._executor.waiting_for())
