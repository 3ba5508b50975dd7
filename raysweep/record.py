"""The recorder: a Tune callback that journals everything that happens to a sweep's trials, first of all."""

from __future__ import annotations

import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.result import (
    AUTO_RESULT_KEYS,
    DONE,
    HOSTNAME,
    TIME_THIS_ITER_S,
    TIME_TOTAL_S,
    TRAINING_ITERATION,
)

from raysweep import checkpoint as checkpoints
from raysweep import unrecorded
from raysweep.checkpoint import Checkpoint
from raysweep.errors import StorageError
from raysweep.journal import Journal
from raysweep.lease import Lease
from raysweep.state import SweepState, TrialRecord
from raysweep.storage import Storage
from raysweep.trial import CHECKPOINT, RESTORED, pointer

log = logging.getLogger(__name__)

# Not metrics: what Ray adds to each result, but for the times, which people do plot.
_NOT_METRICS = {
    *AUTO_RESULT_KEYS,
    DONE,
    "config",
    "experiment_tag",
    CHECKPOINT,
    RESTORED,
    "checkpoint_dir_name",
}
_TIMES = (TIME_THIS_ITER_S, TIME_TOTAL_S)
KEEP_LAST = 2


class NotSaved:
    """Is pickled as nothing: Ray pickles a whole Tuner for a restore, and a sweep is resumed from its journal."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return (object, ())


class Recorder(NotSaved, tune.Callback):
    """Journals suggestions, results, exploits, failures and ends, and keeps the folded state.

    Args:
        storage: the sweep's own folder or prefix.
        journal: where events go.
        state: the sweep as the journal has it.
        metric: what best is measured by.
        mode: "max" or "min".
        exploited: results back from its newest whose checkpoints other trials may still be given; PBT gives those of
            a trial's last perturbation interval.
        lease: without it nothing is written or deleted any more.
    """

    def __init__(
        self,
        storage: Storage,
        journal: Journal,
        state: SweepState,
        metric: str,
        mode: str,
        exploited: int = 0,
        lease: Lease | None = None,
    ) -> None:
        self._storage, self._journal, self.state = storage, journal, state
        self._metric, self._mode, self._exploited = metric, mode, exploited
        self._lease = lease
        self.waiting: Collection[Trial] = ()  # for Tune to take them up
        self._loaded: dict[str, str] = {}  # trial -> the checkpoint that it was last restored from
        self._cleaner = ThreadPoolExecutor(1, thread_name_prefix="expire")

    def _write(self, type: str, **fields: Any) -> None:
        if self._lease:
            self._lease.check()
        event = self._journal.append(type, **fields)
        self.state.apply(event)

    def begin(self, resumed: bool) -> None:
        """A driver takes the sweep up: with what trials saved and the journal lacks, without what is damaged."""
        self._journal.append("start", term=self._journal.term, resumed=resumed)
        for record in self.state.unfinished:
            while (saved := record.own_checkpoint) and not checkpoints.looks_whole(self._storage, saved):
                log.warning("%s is damaged: trial %s goes on from an older one", saved.key, record.id)
                self._write("damaged", trial=record.id, checkpoint=saved.key)
        for record, result in unrecorded.find(self._storage, self.state):
            self._exploit(record, result)
            self._write_result(record, result, adopted=True)

    def on_step_begin(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Called by Tune before each step."""
        if self._lease:
            self._lease.check()

    def end(self, status: str) -> None:
        """The driver leaves the sweep."""
        self._journal.append("end", status=status)

    def suggested(self, trial_id: str, config: dict[str, Any], memory: dict[str, Any]) -> None:
        """The search gave a configuration; `memory` is what its sampler wants back on a resume."""
        self._write("suggest", trial=trial_id, config=config, **({"memory": memory} if memory else {}))

    def completed(self, trial_id: str, status: str) -> None:
        """A trial ended for good."""
        if not self.state.trials[trial_id].ended:
            self._write("complete", trial=trial_id, status=status)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Called by Tune with each result, after the scheduler has decided."""
        record = self.state.trials[trial.trial_id]
        self._exploit(record, result)
        # In the same event: the trial's end is told later, and a driver may be killed before.
        self._write_result(record, result, **({"stop": True} if result[DONE] else {}))
        self._register(record, trial, result)
        if result.get(CHECKPOINT):
            live = (*trials, *self.waiting) if self._exploited else ()
            self.expire(record, self._exploited, {each.checkpoint.path for each in live if each.checkpoint})

    def _write_result(self, record: TrialRecord, result: dict[str, Any], **more: bool) -> None:
        # PBT has set trial.config to the next configuration by now; this result was made with its own.
        used = result["config"]
        changed = {"config": used} if used != record.config else {}
        self._write(
            "result",
            trial=record.id,
            iteration=result[TRAINING_ITERATION],
            metrics=metrics_of(result),
            checkpoint=result.get(CHECKPOINT),
            node=result.get(HOSTNAME, ""),
            **changed,
            **more,
        )

    def _exploit(self, record: TrialRecord, result: dict[str, Any]) -> None:
        loaded: dict[str, Any] | None = result.get(RESTORED)
        if loaded is None:
            return
        self._loaded[record.id] = loaded["key"]
        donor = checkpoints.owner(loaded["key"])
        if donor != record.id:
            changed = {"before": record.config, "after": result["config"]}
            self._write("exploit", trial=record.id, donor=donor, checkpoint=loaded, **changed)

    def _register(self, record: TrialRecord, trial: Trial, result: dict[str, Any]) -> None:
        if not result.get(CHECKPOINT) or self._exploits(trial):
            return
        # Ray learns of the checkpoint here, without the extra remote call that it makes for its own.
        trial.on_checkpoint(pointer(Checkpoint.from_dict(result[CHECKPOINT]), metrics_of(result)))

    def _exploits(self, trial: Trial) -> bool:
        """Whether PBT has just given the trial a donor's checkpoint, which it has yet to load."""
        given = trial.checkpoint.path if trial.checkpoint else None
        return (
            given is not None
            and checkpoints.owner(given) != trial.trial_id
            and self._loaded.get(trial.trial_id) != given
        )

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a failed trial will start again."""
        self._failed(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Called by Tune when a trial failed for good."""
        self._failed(trial)
        self.completed(trial.trial_id, "infeasible" if trial.infeasible else "failed")

    def _failed(self, trial: Trial) -> None:
        self._write("failure", trial=trial.trial_id, error=error_of(trial), kind=str(trial.kind))

    def expire(self, record: TrialRecord, exploited: int = 0, given: Collection[str] = ()) -> None:
        """Deletes a trial's checkpoints but for the best, the last ones and the one it continues from.

        Args:
            record: the trial.
            exploited: what the trial had saved so many results ago, and since, stays too.
            given: keys that trials are about to continue from.
        """
        newest = sorted(record.results.values(), key=lambda result: result.seq, reverse=True)
        saved = [result for result in newest if result.checkpoint]
        since = newest[min(exploited, len(newest) - 1)].seq if newest else 0
        recent = next((i for i, result in enumerate(saved) if result.seq <= since), 0) + 1
        best = record.best(self._metric, self._mode)
        needed = {*given, record.checkpoint.key if record.checkpoint else ""}
        for result in saved[max(KEEP_LAST, recent) :]:
            if result is not best and result.checkpoint and result.checkpoint.key not in needed:
                self._cleaner.submit(self._delete, result.checkpoint.key, self._journal.seq)
                result.checkpoint = None

    def expire_all(self) -> None:
        """When all trials have ended: none will be given another one's checkpoint any more."""
        records = self.state.trials.values()
        given = {record.checkpoint.key for record in records if record.checkpoint}
        for record in records:
            self.expire(record, given=given)

    def _delete(self, key: str, seq: int) -> None:
        try:
            # Until then a resume, or a driver that has taken over, would begin at the old checkpoint.
            if self._journal.stored(seq) and (self._lease is None or self._lease.holds()):
                checkpoints.delete(self._storage, key)
        except StorageError as error:
            log.warning("an old checkpoint stays: %s", error)

    def close(self) -> None:
        """Waits for the deletions under way."""
        self._cleaner.shutdown(wait=True)


def metrics_of(result: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a Ray result: what the task reported, and the seconds it took."""
    metrics = {key: value for key, value in result.items() if key not in _NOT_METRICS}
    return metrics | {key: round(result[key], 4) for key in _TIMES if key in result}


def error_of(trial: Trial) -> str:
    """The last error of a trial, as Ray wrote it: the traceback of the training function."""
    path = trial.error_file
    if path is None:
        return "no error was recorded"
    with open(path) as file:  # noqa: PTH123 - Ray gives a plain string
        return file.read().strip()
