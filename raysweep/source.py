"""Where a sweep's trials come from: first what the journal says is unfinished, then the searcher's suggestions.

Trials are numbered, so the same seed gives the same trial the same name in every run.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from ray.tune.experiment import Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec
from ray.tune.experiment.config_parser import _make_parser as make_parser
from ray.tune.result import DONE, TRAINING_ITERATION
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import SearchAlgorithm, Searcher
from ray.tune.search.variant_generator import format_vars
from ray.tune.utils.util import flatten_dict, merge_dicts

from raysweep.failure import RecoveringTrial
from raysweep.record import NotSaved, Recorder
from raysweep.schedule import replay
from raysweep.state import TrialRecord


@runtime_checkable
class Resumable(Protocol):
    """A searcher that takes over the trials of a journal; another one starts afresh on a resume."""

    def begin(self, adopted: list[TrialRecord]) -> None:
        """Called once, with metric, mode and space set, before the first suggestion."""


@runtime_checkable
class Remembering(Protocol):
    """A searcher whose sampler notes something on a trial that it wants back on a resume."""

    def memory(self, trial_id: str) -> dict[str, Any]:
        """What was noted."""


STOPPED = "stopped_early"  # key that TrialSource adds to the last result of a trial that a scheduler stopped


def outcome(result: dict[str, Any] | None, error: bool, stop_decided: bool, max_iterations: int) -> str:
    """How a trial ended: `failed`, `finished` (all iterations done, or the function returned) or `stopped`.

    Args:
        result: the trial's last result; None for a trial that was stopped while it waited.
        error: whether it failed for good.
        stop_decided: whether its last result came back with Tune's decision to stop.
        max_iterations: iterations of a complete trial.
    """
    if error:
        return "failed"
    if result is not None and result.get(TRAINING_ITERATION, 0) >= max_iterations:
        return "finished"
    returned = result is not None and result.get(DONE) and not stop_decided
    return "finished" if returned else "stopped"


class TrialSource(NotSaved, SearchAlgorithm):
    """Gives Ray the sweep's trials, and journals what is suggested and how each trial ends.

    It stands in the place of Ray's SearchGenerator, which makes up its own names for trials, pickles the searcher
    every few seconds, and is refused by PBT even around random search.

    Args:
        searcher: Ray's searcher.
        recorder: the sweep's recorder; its state holds the trials of earlier runs.
        concurrency: trials that may wait or run at the same time; paused ones do not count, since HyperBand's
            paused trials wait for others to be suggested.
        schedule: hears the journal before the first trial starts.
        max_iterations: iterations of a complete trial.
        ends: whether a result completes its trial or uses up its time.
        timeout: seconds that a trial may run; None has no limit.
        most: the largest node's CPUs and GPUs.
    """

    def __init__(
        self,
        searcher: Searcher,
        recorder: Recorder,
        concurrency: float,
        schedule: TrialScheduler,
        max_iterations: int,
        ends: Callable[[str, dict[str, Any]], bool],
        timeout: float | None = None,
        most: dict[str, float] | None = None,
    ) -> None:
        self.searcher = searcher
        self._parser = make_parser()
        self._spec: dict[str, Any] = {}
        self._counter = 0
        self._recorder, self._concurrency, self._schedule = recorder, concurrency, schedule
        self._max_iterations, self._ends, self._timeout, self._most = max_iterations, ends, timeout, most
        self._waiting: deque[Trial] = deque()
        self._live: dict[str, Trial] = {}

    @property
    def metric(self) -> Any:
        """What the searcher optimises: one metric or a list."""
        return self.searcher.metric

    @property
    def total_samples(self) -> int:
        """Trials of the whole sweep."""
        return int(self._spec.get("num_samples", 0))

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Called by Ray with the sweep's metric, mode and space, for the searcher."""
        return self.searcher.set_search_properties(metric, mode, config, **spec)

    def add_configurations(self, experiments: Any) -> None:
        """Called by Ray once, when metric, mode and space are set: takes over the journal's trials."""
        self._spec = experiments[0].spec
        records = list(self._recorder.state.trials.values())
        self._counter = len(records)
        self._end([record for record in self._recorder.state.unfinished if self._was_decided(record)])
        trials = replay(self._schedule, self._recorder.state.take_events(), self._trial, self._ends)
        self._end([record for record in self._recorder.state.unfinished if trials[record.id].is_finished()])
        if isinstance(self.searcher, Resumable):
            self.searcher.begin(records)
        self._waiting.extend(trials[record.id] for record in self._recorder.state.unfinished)
        self._recorder.waiting = self._waiting

    def _was_decided(self, record: TrialRecord) -> bool:
        """Whether the driver before was killed after a trial's last result, and before its end was journalled."""
        return record.last is not None and (record.stop_decided or record.last.iteration >= self._max_iterations)

    def _end(self, records: list[TrialRecord]) -> None:
        for record in records:
            result = {TRAINING_ITERATION: record.last.iteration} if record.last else None
            self._recorder.completed(record.id, outcome(result, False, True, self._max_iterations))

    def is_finished(self) -> bool:
        """Whether no trial will come any more."""
        return not self._waiting and (self._finished or self._counter >= self.total_samples)

    def next_trial(self) -> Trial | None:
        """The next trial, or None when the cluster has enough to do."""
        active = sum(trial.status in (Trial.PENDING, Trial.RUNNING) for trial in self._live.values())
        if active >= self._concurrency or self.is_finished():
            return None
        trial = self._waiting.popleft() if self._waiting else self._suggest()
        if trial is not None:
            self._live[trial.trial_id] = trial
        return trial

    def _suggest(self) -> Trial | None:
        trial_id = f"{self._counter:05d}"
        config = self.searcher.suggest(trial_id)
        if config is None or config == Searcher.FINISHED:
            self._finished = config is not None
            return None
        self._counter += 1
        whole = merge_dicts(self._spec["config"], copy.deepcopy(config))
        memory = self.searcher.memory(trial_id) if isinstance(self.searcher, Remembering) else {}
        self._recorder.suggested(trial_id, whole, memory)
        return self._trial(trial_id, whole)

    def _trial(self, trial_id: str, config: dict[str, Any]) -> Trial:
        spec = {**copy.deepcopy(self._spec), "config": config}
        tag = f"{trial_id}_{format_vars({(k,): v for k, v in flatten_dict(config).items()})}"
        trial = _create_trial_from_spec(
            spec, self._parser, evaluated_params=flatten_dict(config), experiment_tag=tag, trial_id=trial_id
        )
        recovering = RecoveringTrial.of(trial, self._timeout, self._most)
        recovering.remember(self._recorder.state.trials[trial_id].kinds)
        return recovering

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Called by Ray when a trial ended for good."""
        stop_decided = self._recorder.state.trials[trial_id].stop_decided
        status = outcome(result, error, stop_decided, self._max_iterations)
        if result is not None:
            result = {**result, STOPPED: status == "stopped"}
        trial = self._live.pop(trial_id, None)
        if isinstance(trial, RecoveringTrial) and trial.infeasible:
            self.searcher.on_trial_complete(trial_id, result={STOPPED: True})
        else:
            self.searcher.on_trial_complete(trial_id, result=result, error=error)
        if not error:  # the recorder journals a failure with its traceback, which Ray has not written yet
            self._recorder.completed(trial_id, status)
