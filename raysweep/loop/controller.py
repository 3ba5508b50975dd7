"""What Ray Tune's schedulers are handed in the place of Ray's own controller: the trials, and how they are ended.

Live and in a replay it is the same class and hears the same calls in the same order: `add`, `report`, `failed`,
`leave`. So a scheduler that has heard the journal of a dead driver is what that driver's was: rungs, brackets and who
is paused in them, medians, the population's scores and lineage, even an exploit that was decided and not yet begun. Ray
never saves what a scheduler knows (https://github.com/ray-project/ray/issues/30838, open since 2022).
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
from raysweep.loop.scheduler import Scheduler
from raysweep.ray_private import SavesTrials, continue_from
from raysweep.values import TIME_TOTAL_S, TRAINING_ITERATION

Result = dict[str, Any]


class Decision(Enum):
    """What becomes of a trial that has reported."""

    GO_ON = "go on"
    PAUSE = "pause"  # it goes on later, from its checkpoint or from another trial's
    STOP = "stop"  # it ends here
    COMPLETE = "complete"  # it has done all its iterations: its function may run to its end


@dataclass(frozen=True, repr=False)  # population based training makes a text of all of them with each decision
class Saved:
    """A checkpoint as schedulers hand it around: they never read, copy or delete it.

    Attributes:
        name: the checkpoint.
        metrics: the result that it was reported with.
    """

    name: Checkpoint
    metrics: Result

    @property
    def path(self) -> str:
        """Where it is in the sweep's storage; the name that Ray's own checkpoints have for that."""
        return self.name.key

    @property
    def checkpoint(self) -> Saved:
        """Itself: schedulers pass a checkpoint and its result on together, and ask for the one of the two."""
        return self

    def resolve(self) -> Saved:
        """Itself: Ray's may still be under way."""
        return self


class Controller(SavesTrials):
    """The trials of a sweep, as one of Ray's schedulers sees and ends them.

    Args:
        scheduler: Ray's, with reproducible draws.
        ends: whether a result completes its trial, or ends it by a limit: the scheduler is not asked then.
        max_iterations: of a complete trial.
        searcher: for the one scheduler that talks to it, Ray's HyperBandForBOHB.
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
        self._heard: dict[str, Result] = {}  # the newest result of each live trial that the scheduler could hear
        self._saved: dict[str, Saved] = {}  # the newest checkpoint of each live trial
        self._promised: dict[str, str] = {}  # donor -> the checkpoint that population based training may still give
        self._changed: set[str] = set()  # trials that were given another configuration a moment ago
        self._given: dict[str, str] = {}  # live trial -> another one's checkpoint that it is to go on from
        self._exploits: Counter[str] = Counter()
        self._stopped: list[str] = []

    # What the loop, or a replay, tells.

    def add(self, trial_id: str, config: dict[str, Any]) -> Trial:
        """A new trial, which waits for a place."""
        trial = _Trial(trial_id, dict(config), self._changed.add)
        self.trials[trial_id] = self._live[trial_id] = trial
        self.scheduler.add(self, trial)
        return trial

    def report(self, trial_id: str, result: Result, saved: Checkpoint | None = None) -> Decision:
        """A trial's next result, and what becomes of it.

        Args:
            trial_id: the trial.
            result: metrics, with `training_iteration`.
            saved: the checkpoint of this iteration.
        """
        trial = self.trials[trial_id]
        self._set_status(trial, Trial.RUNNING)
        if saved is not None:
            self._saved[trial_id] = Saved(saved, result)
            continue_from(trial, self._saved[trial_id])
            self._given.pop(trial_id, None)
        heard = self.scheduler.hears(result)
        if heard:
            self._heard[trial_id] = result
        if self._ends(result):
            self.leave(trial_id)
            return Decision.COMPLETE if result[TRAINING_ITERATION] >= self._max_iterations else Decision.STOP
        return self._decided(trial, self._ask(trial, result)) if heard else Decision.GO_ON

    def _set_status(self, trial: Trial, status: str) -> None:
        trial.set_status(status)
        self._paused.pop(trial.trial_id, None)
        if status == Trial.PAUSED:
            self._paused[trial.trial_id] = trial

    def _ask(self, trial: Trial, result: Result) -> str:
        action = self.scheduler.result(self, trial, result, self._exploits[trial.trial_id])
        self._note_given()
        return action

    def _note_given(self) -> None:
        for trial_id in self._changed & self._live.keys():
            saved: Saved | None = self.trials[trial_id].checkpoint
            if saved is not None and owner(saved.path) != trial_id:
                self._given[trial_id] = saved.path
        self._changed.clear()

    def _decided(self, trial: Trial, action: str) -> Decision:
        if action == TrialScheduler.STOP:
            self.leave(trial.trial_id)
            return Decision.STOP
        if action == TrialScheduler.PAUSE or trial.status == Trial.PAUSED:  # an exploit has paused it itself
            self._set_status(trial, Trial.PAUSED)
            if len(self._paused) == len(self._live) and self.choose() is None:
                self._release()  # those that HyperBand has just kept may be beyond its next rung already
            return Decision.PAUSE
        return Decision.GO_ON

    def started(self, trial_id: str) -> None:
        """A trial that waited runs now."""
        self._set_status(self.trials[trial_id], Trial.RUNNING)

    def failed(self, trial_id: str) -> None:
        """A trial will start again: it keeps its place in bracket or population, and waits for one to run."""
        self._set_status(self.trials[trial_id], Trial.PENDING)

    def leave(self, trial_id: str, failed: bool = False) -> None:
        """A trial has ended, by its own doing or a decision; `failed` if for good."""
        trial = self.trials[trial_id]
        if not trial.is_finished():
            self._end(trial, failed)
            self._release()

    def _end(self, trial: Trial, failed: bool) -> None:
        heard = self._heard.pop(trial.trial_id, None)
        if failed or heard is None:
            self.scheduler.error(self, trial)
        elif trial.status == Trial.PAUSED:
            self.scheduler.remove(self, trial)
        else:
            self.scheduler.complete(self, trial, heard)
        self._set_status(trial, Trial.TERMINATED)
        del self._live[trial.trial_id]
        self._ended.append(trial)
        for known in (self._saved, self._promised, self._given):
            known.pop(trial.trial_id, None)

    def _release(self) -> None:
        """Lets those go on that waited for a trial that has left.

        Ray's HyperBand halves a bracket when its last result comes, and forgets to when its last trial leaves instead
        (after the first rung, `is_being_processed` stays set). A population that perturbs in step waits likewise. To
        hear the newest result of a trial that waits once more changes nothing, but for one that waits no longer.
        """
        paused = list(self._paused.values())
        if not isinstance(self.scheduler.ray, HyperBandScheduler) and paused and self.choose() is not None:
            return
        for trial in paused:
            heard = self._heard.get(trial.trial_id)
            if trial.status != Trial.PAUSED or heard is None:
                continue  # it was ended, or let go on, with one before it
            action = self._ask(trial, heard)
            if action == TrialScheduler.STOP:
                self.stop_trial(trial)
            elif action == TrialScheduler.CONTINUE:
                self._set_status(trial, Trial.PENDING)

    # What the loop asks.

    def choose(self) -> Trial | None:
        """Which of the trials that wait shall run next, as the scheduler says."""
        return self.scheduler.choose(self)

    def take_stopped(self) -> list[str]:
        """The trials that the scheduler has ended while they waited, since this was asked last."""
        stopped, self._stopped = self._stopped, []
        return stopped

    def continues_from(self, trial_id: str) -> Saved | None:
        """What a trial that waits is to go on from, which may be another trial's checkpoint."""
        given: Saved | None = self.trials[trial_id].checkpoint
        return given

    def needed(self) -> set[str]:
        """Keys of checkpoints that live trials are given, or may be; of its own one a trial needs the newest only."""
        return {*self._given.values(), *self._promised.values()}

    @property
    def live(self) -> dict[str, Trial]:
        """The trials that have not ended, by id."""
        return self._live

    # What schedulers call.

    def get_trials(self) -> list[Trial]:
        """All trials. Live ones first: who looks for one that waits, as FIFO does each time, finds it at once."""
        return [*self._live.values(), *self._ended]

    def get_live_trials(self) -> list[Trial]:
        """The trials that have not ended."""
        return list(self._live.values())

    def stop_trial(self, trial: Trial) -> None:
        """Ends a trial that waits, by a result of another one."""
        if not trial.is_finished():
            self._stopped.append(trial.trial_id)
            self._end(trial, failed=False)

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """Pauses the trial that has just reported: it is to continue from a donor's checkpoint."""
        self._exploits[trial.trial_id] += 1
        self._set_status(trial, Trial.PAUSED)

    def saved(self, trial: Trial) -> Saved | None:
        """The newest checkpoint of a trial that may become a donor; None if it has none."""
        saved = self._saved.get(trial.trial_id)
        if saved is not None:
            self._promised[trial.trial_id] = saved.path
        return saved

    # A replay.

    def replay(self, events: Iterable[Event]) -> None:
        """Hears a journal from its beginning, as the driver that wrote it did. Trials that ran wait again then."""
        for event in events:
            hear = getattr(self, f"_replay_{event['type']}", None)
            if hear is not None:
                hear(event)
        for trial in self._live.values():
            if trial.status == Trial.RUNNING:
                self._set_status(trial, Trial.PENDING)

    def _replay_suggest(self, event: Event) -> None:
        self.add(event["trial"], event["config"])

    def _replay_exploit(self, event: Event) -> None:
        # The decision is there already, from the result before; what was really done counts.
        trial, saved = self.trials[event["trial"]], Checkpoint.from_dict(event["checkpoint"])
        trial.set_config(event["after"])
        donor = self._saved.get(event["donor"])
        metrics = donor.metrics if donor and donor.path == saved.key else {TRAINING_ITERATION: saved.iteration}
        continue_from(trial, Saved(saved, metrics))
        self._note_given()

    def _replay_result(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        if trial.is_finished():
            return
        if "config" in event:
            trial.set_config(event["config"])
        result = {TIME_TOTAL_S: 0.0, **event["metrics"], TRAINING_ITERATION: event["iteration"]}
        self.report(trial.trial_id, result, Checkpoint.from_dict(event["checkpoint"]) if event["checkpoint"] else None)

    def _replay_failure(self, event: Event) -> None:
        if not self.trials[event["trial"]].is_finished():
            self.failed(event["trial"])

    def _replay_complete(self, event: Event) -> None:
        trial, status = self.trials[event["trial"]], event["status"]
        if status == "finished" and not trial.is_finished():  # it has returned by itself: it ran
            self._set_status(trial, Trial.RUNNING)
        self.leave(trial.trial_id, failed=status in ("failed", "infeasible"))


class _Trial(Trial):
    """A trial that tells when it is given another configuration; with an exploit comes another one's checkpoint."""

    def __init__(self, trial_id: str, config: dict[str, Any], changed: Callable[[str], None]) -> None:
        super().__init__("trial", stub=True, trial_id=trial_id, config=config, experiment_tag=trial_id)
        self._changed = changed

    def set_config(self, config: dict[str, Any]) -> None:
        """Called by population based training before it says what the trial is to go on from."""
        super().set_config(config)
        self._changed(self.trial_id)


class _SearchAlgorithm:
    """How Ray's schedulers find the searcher."""

    def __init__(self, searcher: Any) -> None:
        self.searcher = searcher
