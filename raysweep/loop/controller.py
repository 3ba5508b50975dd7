"""Stands in for Ray's own controller: gives Ray Tune's schedulers the trials, and the calls to pause and stop them.

A live run and a replay use the same class, with the same calls in the same order: `add`, `report`, `requeue`, `end`.
So after a replay of a dead driver's journal, a scheduler is in the same state as that driver's: rungs, brackets and the
trials paused in them, medians, the population's scores and lineage, even an exploit that was decided but not yet begun.
Ray never saves a scheduler's state (https://github.com/ray-project/ray/issues/30838, open since 2022).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler

from raysweep.history.checkpoint import Checkpoint, owner
from raysweep.history.journal import Event
from raysweep.history.sweep_state import BY_LIMIT
from raysweep.loop.scheduler import Scheduler
from raysweep.ray_private import SavesTrials, continue_from
from raysweep.values import TIME_TOTAL_S, TRAINING_ITERATION

Result = dict[str, Any]


class Decision(Enum):
    """What a trial does after a report."""

    GO_ON = "go on"
    PAUSE = "pause"  # it continues later, from its own checkpoint or another trial's
    STOP = "stop"  # it ends here, as the scheduler decided
    LIMIT = "limit"  # it ends here, since it has reached a limit
    COMPLETE = "complete"  # it has done all its iterations: its function may run to its end


@dataclass(frozen=True, repr=False)  # population based training formats all of them with each decision
class Saved:
    """A checkpoint as schedulers pass it around: they never read, copy or delete it.

    Attributes:
        name: the checkpoint.
        metrics: the result that it was reported with.
    """

    name: Checkpoint
    metrics: Result

    @property
    def path(self) -> str:
        """Its key in the sweep's storage; Ray's own checkpoints call it `path`."""
        return self.name.key

    @property
    def checkpoint(self) -> Saved:
        """Itself: schedulers pass on a pair of checkpoint and result, and read the checkpoint from it."""
        return self

    def resolve(self) -> Saved:
        """Itself: Ray's may be a future that is not ready yet."""
        return self


class Controller(SavesTrials):
    """The trials of a sweep, as one of Ray's schedulers sees and ends them.

    Args:
        scheduler: Ray's, with reproducible draws.
        ends: whether a result completes its trial or ends it by a limit; the scheduler does not decide on those.
        max_iterations: of a complete trial.
        searcher: for the one scheduler that uses it, Ray's HyperBandForBOHB.
    """

    def __init__(
        self, scheduler: Scheduler, ends: Callable[[Result], bool], max_iterations: int, searcher: Any = None
    ) -> None:
        self.scheduler, self._ends, self._max_iterations = scheduler, ends, max_iterations
        self.search_alg = _SearchAlgorithm(searcher) if searcher is not None else None
        self.trials: dict[str, Trial] = {}
        self._live: dict[str, Trial] = {}
        self._ended: list[Trial] = []
        self._paused: dict[str, Trial] = {}
        self._last_results: dict[str, Result] = {}  # of each live trial, the newest that has the scheduler's metric
        self._saved: dict[str, Saved] = {}  # the newest checkpoint of each live trial
        self._offered: dict[str, str] = {}  # donor -> checkpoint that population based training may still assign
        self._changed: set[str] = set()  # trials whose configuration the scheduler has just changed
        self._assigned: dict[str, str] = {}  # live trial -> another trial's checkpoint that it will continue from
        self._exploits: Counter[str] = Counter()
        self._stopped: list[str] = []

    # Called by the loop, or by a replay.

    def add(self, trial_id: str, config: dict[str, Any]) -> Trial:
        """Adds a new trial, which waits for a place."""
        trial = _Trial(trial_id, dict(config), self._changed.add)
        self.trials[trial_id] = self._live[trial_id] = trial
        self.scheduler.add(self, trial)
        return trial

    def report(
        self, trial_id: str, result: Result, saved: Checkpoint | None = None, over: bool | None = None
    ) -> Decision:
        """Takes a trial's next result, and decides what the trial does next.

        Args:
            trial_id: the trial.
            result: metrics, with `training_iteration`.
            saved: the checkpoint of this iteration.
            over: whether the trial has reached a limit, if that was decided before.
        """
        trial = self.trials[trial_id]
        self._set_status(trial, Trial.RUNNING)
        if saved is not None:
            self._saved[trial_id] = Saved(saved, result)
            continue_from(trial, self._saved[trial_id])
            self._assigned.pop(trial_id, None)
        has_metric = self.scheduler.has_metric(result)
        if has_metric:
            self._last_results[trial_id] = result
        if self._ends(result) if over is None else over:
            self.end(trial_id)
            return Decision.COMPLETE if result[TRAINING_ITERATION] >= self._max_iterations else Decision.LIMIT
        return self._apply(trial, self._action(trial, result)) if has_metric else Decision.GO_ON

    def _set_status(self, trial: Trial, status: str) -> None:
        trial.set_status(status)
        self._paused.pop(trial.trial_id, None)
        if status == Trial.PAUSED:
            self._paused[trial.trial_id] = trial

    def _action(self, trial: Trial, result: Result) -> str:
        action = self.scheduler.result(self, trial, result, self._exploits[trial.trial_id])
        self._note_assigned()
        return action

    def _note_assigned(self) -> None:
        for trial_id in self._changed & self._live.keys():
            saved: Saved | None = self.trials[trial_id].checkpoint
            if saved is not None and owner(saved.path) != trial_id:
                self._assigned[trial_id] = saved.path
        self._changed.clear()

    def _apply(self, trial: Trial, action: str) -> Decision:
        if action == TrialScheduler.STOP:
            self.end(trial.trial_id)
            return Decision.STOP
        if action == TrialScheduler.PAUSE or trial.status == Trial.PAUSED:  # an exploit calls `pause_trial` itself
            self._set_status(trial, Trial.PAUSED)
            if len(self._paused) == len(self._live) and self.choose() is None:
                self._release_paused()  # trials that HyperBand has just kept may be beyond its next rung already
            return Decision.PAUSE
        return Decision.GO_ON

    def started(self, trial_id: str) -> None:
        """A waiting trial has started to run."""
        self._set_status(self.trials[trial_id], Trial.RUNNING)

    def requeue(self, trial_id: str) -> None:
        """A trial will start again: it stays in its bracket or population, and waits for a place to run."""
        self._set_status(self.trials[trial_id], Trial.PENDING)

    def end(self, trial_id: str, failed: bool = False) -> None:
        """A trial has ended, by itself or by a decision; `failed` if it failed for good."""
        trial = self.trials[trial_id]
        if not trial.is_finished():
            self._end(trial, failed)
            self._release_paused()

    def _end(self, trial: Trial, failed: bool) -> None:
        last_result = self._last_results.pop(trial.trial_id, None)
        if failed or last_result is None:
            self.scheduler.error(self, trial)
        elif trial.status == Trial.PAUSED:
            self.scheduler.remove(self, trial)
        else:
            self.scheduler.complete(self, trial, last_result)
        self._set_status(trial, Trial.TERMINATED)
        del self._live[trial.trial_id]
        self._ended.append(trial)
        for by_trial in (self._saved, self._offered, self._assigned):
            by_trial.pop(trial.trial_id, None)

    def _release_paused(self) -> None:
        """Lets trials continue that waited for one that has ended.

        Ray's HyperBand halves a bracket when its last result arrives, but not when its last trial ends instead
        (after the first rung, `is_being_processed` stays set). A population that perturbs in step waits likewise.
        Giving the scheduler the newest result of a paused trial again changes nothing if the trial still has to wait.
        """
        paused = list(self._paused.values())
        if not isinstance(self.scheduler.ray, HyperBandScheduler) and paused and self.choose() is not None:
            return
        for trial in paused:
            last_result = self._last_results.get(trial.trial_id)
            if trial.status != Trial.PAUSED or last_result is None:
                continue  # it was ended or released together with an earlier one
            action = self._action(trial, last_result)
            if action == TrialScheduler.STOP:
                self.stop_trial(trial)
            elif action == TrialScheduler.CONTINUE:
                self._set_status(trial, Trial.PENDING)

    # Questions of the loop.

    def choose(self) -> Trial | None:
        """The waiting trial that the scheduler lets run next."""
        return self.scheduler.choose(self)

    def take_stopped(self) -> list[str]:
        """The waiting trials that the scheduler has ended since the last call."""
        stopped, self._stopped = self._stopped, []
        return stopped

    def continues_from(self, trial_id: str) -> Saved | None:
        """The checkpoint that a waiting trial continues from, which may be another trial's."""
        saved: Saved | None = self.trials[trial_id].checkpoint
        return saved

    def needed(self) -> set[str]:
        """Keys of checkpoints that are, or may be, assigned to other trials; of its own, a trial needs the newest."""
        return {*self._assigned.values(), *self._offered.values()}

    @property
    def live(self) -> dict[str, Trial]:
        """The trials that have not ended, by id."""
        return self._live

    # Called by schedulers.

    def get_trials(self) -> list[Trial]:
        """All trials. Live ones first: FIFO searches the list for a waiting trial each time, and finds it at once."""
        return [*self._live.values(), *self._ended]

    def get_live_trials(self) -> list[Trial]:
        """The trials that have not ended."""
        return list(self._live.values())

    def stop_trial(self, trial: Trial) -> None:
        """Ends a waiting trial, because of another trial's result."""
        if not trial.is_finished():
            self._stopped.append(trial.trial_id)
            self._end(trial, failed=False)

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """Pauses the trial that has just reported: it will continue from a donor's checkpoint."""
        self._exploits[trial.trial_id] += 1
        self._set_status(trial, Trial.PAUSED)

    def saved(self, trial: Trial) -> Saved | None:
        """The newest checkpoint of a trial that may become a donor; None if it has none."""
        saved = self._saved.get(trial.trial_id)
        if saved is not None:
            self._offered[trial.trial_id] = saved.path
        return saved

    # Replay.

    def replay(self, events: Iterable[Event]) -> None:
        """Repeats a journal from its beginning, as its driver experienced it. Afterwards, running trials wait again."""
        for event in events:
            handler = getattr(self, f"_replay_{event['type']}", None)
            if handler is not None:
                handler(event)
        for trial in self._live.values():
            if trial.status == Trial.RUNNING:
                self._set_status(trial, Trial.PENDING)

    def _replay_suggest(self, event: Event) -> None:
        self.add(event["trial"], event["config"])

    def _replay_exploit(self, event: Event) -> None:
        # The scheduler has already decided this, on the previous result; the journal says what was really done.
        trial, saved = self.trials[event["trial"]], Checkpoint.from_dict(event["checkpoint"])
        trial.set_config(event["after"])
        known = [
            each for each in (trial.checkpoint, self._saved.get(event["donor"])) if each and each.path == saved.key
        ]
        metrics = known[0].metrics if known else {TRAINING_ITERATION: saved.iteration}
        continue_from(trial, Saved(saved, metrics))
        self._note_assigned()

    def _replay_result(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        if trial.is_finished():
            return
        if "config" in event:
            trial.set_config(event["config"])
        result = {TIME_TOTAL_S: 0.0, **event["metrics"], TRAINING_ITERATION: event["iteration"]}
        saved = Checkpoint.from_dict(event["checkpoint"]) if event["checkpoint"] else None
        self.report(trial.trial_id, result, saved, _was_over(event))

    def _replay_retry(self, event: Event) -> None:
        """A failed trial is a new one to the scheduler, with the old one's configuration and checkpoint."""
        failed = self.trials[event["trial"]]
        self._ended.remove(failed)
        saved: Saved | None = failed.checkpoint
        trial = self.add(failed.trial_id, failed.config)
        if saved is not None:
            continue_from(trial, saved)

    def _replay_pruned(self, event: Event) -> None:
        """Checkpoints are gone: a failed trial that is tried again has none to continue from."""
        for trial in self._ended:
            saved: Saved | None = trial.checkpoint
            if saved is not None and owner(saved.path) not in event["kept"]:
                continue_from(trial, None)

    def _replay_failure(self, event: Event) -> None:
        if not self.trials[event["trial"]].is_finished():
            self.requeue(event["trial"])

    def _replay_complete(self, event: Event) -> None:
        trial, status = self.trials[event["trial"]], event["status"]
        if status == "finished" and not trial.is_finished():  # it returned by itself, so it was running
            self._set_status(trial, Trial.RUNNING)
        self.end(trial.trial_id, failed=status in ("failed", "infeasible"))


def _was_over(event: Event) -> bool | None:
    """Whether the dead driver ended a trial by a limit, which may be another one now; None if its journal does not say.

    Journals of before do not tell limits from the scheduler, and have no decision with an adopted result.
    """
    stop = event.get("stop", event.get("adopted", False))
    return None if stop is True else stop == BY_LIMIT


class _Trial(Trial):
    """A trial that reports a change of its configuration: an exploit, which also assigns another trial's checkpoint."""

    def __init__(self, trial_id: str, config: dict[str, Any], changed: Callable[[str], None]) -> None:
        super().__init__("trial", stub=True, trial_id=trial_id, config=config, experiment_tag=trial_id)
        self._changed = changed

    def set_config(self, config: dict[str, Any]) -> None:
        """Called by population based training, before it sets the checkpoint to continue from."""
        super().set_config(config)
        self._changed(self.trial_id)


class _SearchAlgorithm:
    """Where Ray's schedulers look for the searcher."""

    def __init__(self, searcher: Any) -> None:
        self.searcher = searcher
