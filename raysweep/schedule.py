"""A scheduler that outlives its driver: what it knows is a function of the journal.

Ray never saves what a scheduler knows (https://github.com/ray-project/ray/issues/30838, open since 2022): a restored
ASHA starts with empty rungs and lets the next trials through, a restored HyperBand waits for ever for trials that it
has forgotten. Here a new scheduler hears the journal from its beginning, with Ray's own trials and a stand-in for its
controller, and then is what the old one was: rungs, brackets and who is paused in them, medians, the population's
scores and lineage, even an exploit that was decided and not yet begun.

That is exact, since a decision depends on nothing else: draws (PBT's donors and perturbations, the brackets of
asynchronous HyperBand) come from generators that are seeded anew for each decision.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from ray.train._internal.checkpoint_manager import _TrainingResult
from ray.train._internal.session import _FutureTrainingResult
from ray.tune.experiment import Trial
from ray.tune.result import TIME_TOTAL_S, TRAINING_ITERATION
from ray.tune.schedulers import TrialScheduler
from ray.tune.utils.util import flatten_dict

from raysweep.checkpoint import Checkpoint
from raysweep.journal import Event
from raysweep.record import NotSaved
from raysweep.state import finite
from raysweep.trial import pointer

BAD = 1e30  # stands for a first value that is not finite


class Schedule(NotSaved, TrialScheduler):
    """One of Ray's schedulers, with reproducible draws, in which a trial has one place for good.

    Ray takes a trial that will start again after a failure out of its scheduler and adds it once more: to another
    bracket, as a newcomer of the population. Here it stays where it was.

    Args:
        scheduler: Ray's.
        seed: of the sweep.
    """

    def __init__(self, scheduler: TrialScheduler, seed: int) -> None:
        super().__init__()
        self.scheduler, self._seed, self._mode = scheduler, seed, "max"
        self._worst: float | None = None
        self._placed: set[str] = set()

    @property
    def metric(self) -> str | None:
        """What the scheduler compares."""
        return self.scheduler.metric

    @property
    def supports_buffered_results(self) -> bool:
        """Whether it may hear of several results at a time."""
        return self.scheduler.supports_buffered_results

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Called by Tune with the sweep's metric and mode."""
        self._mode = mode or self._mode
        return self.scheduler.set_search_properties(metric, mode, **spec)

    def on_trial_add(self, controller: Any, trial: Trial) -> None:
        """Called by Tune with a new trial, and with one that starts again."""
        if trial.trial_id not in self._placed:
            self._placed.add(trial.trial_id)
            self._seed_draws(trial.trial_id, 0)
            self.scheduler.on_trial_add(controller, trial)

    def on_trial_error(self, controller: Any, trial: Trial) -> None:
        """Called by Tune when a trial failed; its status is ERROR by then only if it will start again."""
        if trial.status != Trial.ERROR:
            self.scheduler.on_trial_error(controller, trial)

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Called by Tune for a decision."""
        self._seed_draws(trial.trial_id, result[TRAINING_ITERATION])
        return self.scheduler.on_trial_result(controller, trial, self._sane(result))

    def on_trial_complete(self, controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Called by Tune when a running trial has ended."""
        self.scheduler.on_trial_complete(controller, trial, self._sane(result))

    def on_trial_remove(self, controller: Any, trial: Trial) -> None:
        """Called by Tune when a trial ended that did not run."""
        self.scheduler.on_trial_remove(controller, trial)

    def choose_trial_to_run(self, controller: Any) -> Trial | None:
        """Called by Tune when there is room."""
        return self.scheduler.choose_trial_to_run(controller)

    def debug_string(self) -> str:
        """For Ray's tables."""
        return self.scheduler.debug_string()

    def _sane(self, result: dict[str, Any]) -> dict[str, Any]:
        """A value that is not finite counts as the worst so far: ranks and quantiles know no order with nan."""
        name, sign = self.metric or "", self._sign
        value = result.get(name)
        if not finite(value):
            return {**result, name: -sign * BAD if self._worst is None else self._worst}
        if isinstance(value, int | float):
            self._worst = value if self._worst is None else sign * min(sign * value, sign * self._worst)
        return result

    @property
    def _sign(self) -> int:
        return 1 if self._mode == "max" else -1

    def _seed_draws(self, trial_id: str, iteration: int) -> None:
        # Ray's schedulers draw from the global generators.
        digest = hashlib.sha256(f"{self._seed}/{trial_id}/{iteration}".encode()).digest()
        random.seed(digest)
        np.random.seed(int.from_bytes(digest[:4], "big"))


def replay(
    schedule: TrialScheduler,
    events: Iterable[Event],
    make: Callable[[str, dict[str, Any]], Trial],
    ends: Callable[[str, dict[str, Any]], bool],
) -> dict[str, Trial]:
    """Tells a new schedule the journal, before Ray gives it the first trial.

    Args:
        schedule: with its metric set.
        events: of the journal, in order.
        make: a trial of Ray's, from its id and configuration.
        ends: whether a result completes its trial or uses up its time; Ray does not ask the scheduler then.

    Returns:
        All trials by id. Those that have not ended are PENDING or PAUSED, with the configuration and the checkpoint
        that they continue with; those that have are TERMINATED, also where only the schedule has decided so.
    """
    controller = _Replay(schedule, make, ends)
    for event in events:
        controller.tell(event)
    for trial in controller.get_live_trials():
        if trial.status == Trial.RUNNING:
            trial.set_status(Trial.PENDING)
    return controller.trials


class _Replay:
    """Stands in for Ray's TuneController: does to the trials what that did when the journal was written."""

    search_alg = None

    def __init__(
        self,
        schedule: TrialScheduler,
        make: Callable[[str, dict[str, Any]], Trial],
        ends: Callable[[str, dict[str, Any]], bool],
    ) -> None:
        self._schedule, self._make, self._ends = schedule, make, ends
        self.trials: dict[str, Trial] = {}
        self._saved: dict[str, _TrainingResult] = {}  # the newest checkpoint of each trial
        self._saved_with: dict[str, dict[str, Any]] = {}  # checkpoint -> the result that it was reported with
        self._last: dict[str, dict[str, Any]] = {}  # the newest result of each trial

    def tell(self, event: Event) -> None:
        """One event of the journal."""
        if (hear := getattr(self, f"_{event['type']}", None)) is not None:
            hear(event)

    def _suggest(self, event: Event) -> None:
        trial = self.trials[event["trial"]] = self._make(event["trial"], event["config"])
        self._schedule.on_trial_add(self, trial)

    def _exploit(self, event: Event) -> None:
        # The decision is there already, from the result before; what was really done counts.
        trial = self.trials[event["trial"]]
        trial.set_config(event["after"])
        saved = Checkpoint.from_dict(event["checkpoint"])
        self._continue_from(trial, pointer(saved, self._saved_with.get(saved.key, {})))

    def _result(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        trial.set_status(Trial.RUNNING)
        if "config" in event:
            trial.set_config(event["config"])
        result = {TIME_TOTAL_S: 0.0, **event["metrics"], TRAINING_ITERATION: event["iteration"]}
        self._last[trial.trial_id] = result
        if event["checkpoint"]:
            saved = Checkpoint.from_dict(event["checkpoint"])
            self._saved[trial.trial_id] = pointer(saved, result)
            self._saved_with[saved.key] = result
            self._continue_from(trial, self._saved[trial.trial_id])
        decision = TrialScheduler.STOP
        if not self._ends(trial.trial_id, result):
            decision = self._schedule.on_trial_result(self, trial, flatten_dict(result))
        if decision == TrialScheduler.PAUSE:
            trial.set_status(Trial.PAUSED)
        if decision == TrialScheduler.STOP and event.get("adopted"):
            self.stop_trial(trial)

    def _failure(self, event: Event) -> None:
        self.trials[event["trial"]].set_status(Trial.PENDING)

    def _complete(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        if event["status"] == "failed":
            self._schedule.on_trial_error(self, trial)
            trial.set_status(Trial.TERMINATED)
        else:
            self.stop_trial(trial)

    def _continue_from(self, trial: Trial, saved: _TrainingResult) -> None:
        trial.run_metadata.checkpoint_manager._latest_checkpoint_result = saved

    def get_trials(self) -> list[Trial]:
        """Called by schedulers: all trials."""
        return list(self.trials.values())

    def get_live_trials(self) -> list[Trial]:
        """Called by schedulers: the trials that have not ended."""
        return [trial for trial in self.trials.values() if not trial.is_finished()]

    def stop_trial(self, trial: Trial) -> None:
        """A trial's end: an event of the journal, before the one for which a scheduler calls this; or decided here,

        from a result that was adopted.
        """
        if trial.is_finished():
            return
        if trial.status == Trial.RUNNING:
            self._schedule.on_trial_complete(self, trial, flatten_dict(self._last[trial.trial_id]))
        else:
            self._schedule.on_trial_remove(self, trial)
        trial.set_status(Trial.TERMINATED)

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """Called by PBT for a trial that will continue from a donor's checkpoint."""
        trial.set_status(Trial.PAUSED)

    def _schedule_trial_save(self, trial: Trial, result: Any = None) -> _Saved:
        """Called by PBT for a trial that may become a donor."""
        return _Saved(self._saved.get(trial.trial_id))


class _Saved(_FutureTrainingResult):
    """A save that is done."""

    def __init__(self, saved: _TrainingResult | None) -> None:
        self._saved = saved

    def resolve(self, block: bool = True) -> _TrainingResult | None:
        return self._saved
