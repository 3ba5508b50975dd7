"""The recorder: journals everything that happens to a sweep's trials, and deletes checkpoints no longer needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

from raysweep.errors import StorageError
from raysweep.history import checkpoint as checkpoints
from raysweep.history.checkpoint import Checkpoint
from raysweep.history.journal import Journal
from raysweep.history.lease import Lease
from raysweep.history.sweep_state import BY_LIMIT, Result, SweepState, TrialRecord
from raysweep.loop import adopt_results
from raysweep.storage import Storage
from raysweep.trial.session import Report
from raysweep.values import TRAINING_ITERATION, is_number

log = logging.getLogger(__name__)

KEEP_LAST = 2


class Recorder:
    """Journals suggestions, results, exploits, failures and ends, and keeps the sweep's state up to date.

    Args:
        storage: the sweep's own folder or prefix.
        journal: that events are written to.
        state: the sweep's state from the journal.
        metric: that decides which result is the best.
        mode: "max" or "min".
        lease: when it is lost, nothing more is written or deleted.
    """

    def __init__(
        self, storage: Storage, journal: Journal, state: SweepState, metric: str, mode: str, lease: Lease | None = None
    ) -> None:
        self._storage, self._journal, self.state = storage, journal, state
        self._metric, self._mode, self._lease = metric, mode, lease
        self._best: dict[str, Result] = {}  # of each live trial; to search all its results each time would be slow
        self._cleaner = ThreadPoolExecutor(1, thread_name_prefix="expire")

    def check_lease(self) -> None:
        """Raises SweepFailed if another driver has taken the sweep over; to be called about once a second."""
        if self._lease:
            self._lease.check()

    def _write(self, type: str, **fields: Any) -> None:
        self.check_lease()
        self.state.apply(self._journal.append(type, **fields))

    def begin(
        self,
        resumed: bool,
        ends: Callable[[dict[str, Any]], bool] = lambda _: False,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Starts or resumes the sweep: drops damaged checkpoints, and adopts saved results missing from the journal.

        Args:
            resumed: whether it was begun before.
            ends: whether a result ends its trial by a limit; decided for adopted results, and journalled with them.
            settings: of this driver, which are journalled, see `journal`.
        """
        self.state.apply(self._journal.append("start", term=self._journal.term, resumed=resumed, **settings))
        for record in self.state.unfinished:
            while (saved := record.own_checkpoint) and not checkpoints.looks_whole(self._storage, saved):
                log.warning("%s is damaged: trial %s goes on from an older one", saved.key, record.id)
                self._write("damaged", trial=record.id, checkpoint=saved.key)
        for record, report, config in adopt_results.find(self._storage, self.state):
            result = {**report.metrics, TRAINING_ITERATION: report.iteration}
            self.reported(record.id, report, config, adopted=True, stop=BY_LIMIT if ends(result) else "")

    def end(self, status: str, out_of_budget: bool = False) -> None:
        """The driver leaves the sweep; `out_of_budget` if that is since a budget of time or money is used up."""
        why = {"out_of_budget": True} if out_of_budget else {}
        self.state.apply(self._journal.append("end", status=status, **why))

    def suggested(self, trial_id: str, config: dict[str, Any], memory: dict[str, Any]) -> None:
        """The searcher suggested a configuration; `memory` is what its sampler needs on a resume."""
        self._write("suggest", trial=trial_id, config=config, **({"memory": memory} if memory else {}))

    def reported(self, trial_id: str, report: Report, config: dict[str, Any], **more: bool | str) -> Result:
        """A trial's next result, made with this configuration.

        Args:
            trial_id: the trial.
            report: its report.
            config: the trial's configuration; written if population based training has changed it.
            **more: `stop`, if the trial was to end, with who decided that; it is in the same event, since the driver
                may be killed before it journals the end. `adopted` if a resume found the result.
        """
        record = self.state.trials[trial_id]
        self._exploited(record, report.restored, config)
        changed = _changed(record, config)
        self._write(
            "result",
            trial=trial_id,
            iteration=report.iteration,
            metrics=report.metrics,
            checkpoint=report.checkpoint.to_dict() if report.checkpoint else None,
            node=report.node,
            **({"stalled": round(report.stalled, 6)} if report.stalled else {}),
            **changed,
            **more,
        )
        assert record.last is not None
        self._keep_best(record, record.last)
        return record.last

    def _keep_best(self, record: TrialRecord, newest: Result) -> None:
        known = self._best.get(record.id)
        if known is None or not record.counts(known):
            best = record.best(self._metric, self._mode)
        else:
            best = newest if is_number(newest.metrics.get(self._metric)) and self._beats(newest, known) else known
        if best is not None:
            self._best[record.id] = best

    def _beats(self, one: Result, other: Result) -> bool:
        """Ranks as `TrialRecord.best` does: of two equal results, the earlier iteration is better."""
        sign = 1 if self._mode == "max" else -1
        ranks = [(sign * each.metrics[self._metric], -each.iteration) for each in (one, other)]
        return ranks[0] > ranks[1]

    def _exploited(self, record: TrialRecord, restored: Checkpoint | None, config: dict[str, Any]) -> None:
        if restored is None or checkpoints.owner(restored.key) == record.id:
            return
        changed = {"before": record.config, "after": config}
        donor = checkpoints.owner(restored.key)
        self._write("exploit", trial=record.id, donor=donor, checkpoint=restored.to_dict(), **changed)

    def failed(self, trial_id: str, error: str, kind: str, printed: Sequence[str] = ()) -> None:
        """A trial failed; it may start again. `printed` are the last lines that it printed."""
        self._write("failure", trial=trial_id, error=error, kind=kind, **({"printed": [*printed]} if printed else {}))

    def retried(self, trial_id: str) -> None:
        """A failed trial is tried again."""
        self._write("retry", trial=trial_id)

    def completed(self, trial_id: str, status: str) -> None:
        """A trial ended for good."""
        self._best.pop(trial_id, None)
        if not self.state.trials[trial_id].ended:
            self._write("complete", trial=trial_id, status=status)

    def expire(self, record: TrialRecord, needed: Callable[[], Collection[str]] = tuple) -> None:
        """Deletes a trial's checkpoints except the one at or nearest to its best result, the last ones and the one that
        it continues from.

        Args:
            record: the trial.
            needed: returns the keys of checkpoints that other trials will or may continue from.
        """
        if len(record.saved) <= KEEP_LAST:
            return
        best = self._best.get(record.id) or record.best(self._metric, self._mode)
        nearest = best and record.nearest_saved(best)  # the best one itself, if it saved a state
        kept = {saved.key for saved in (record.checkpoint, nearest and nearest.checkpoint) if saved} | {*needed()}
        for result in record.saved[:-KEEP_LAST]:
            if result.checkpoint and result.checkpoint.key not in kept:
                self._cleaner.submit(self._delete, result.checkpoint.key, self._journal.seq)
                record.forget_checkpoint(result)

    def expire_all(self) -> None:
        """When all trials have ended: none will continue from another one's checkpoint any more."""
        records = self.state.trials.values()
        needed = {record.checkpoint.key for record in records if record.checkpoint}
        for record in records:
            self.expire(record, lambda: needed)

    def _delete(self, key: str, seq: int) -> None:
        try:
            # Before the event is stored, a resume or another driver would still start from the old checkpoint.
            if self._journal.stored(seq) and (self._lease is None or self._lease.holds()):
                checkpoints.delete(self._storage, key)
        except StorageError as error:
            log.warning("an old checkpoint could not be deleted: %s", error)

    def close(self) -> None:
        """Waits until all deletions are done."""
        self._cleaner.shutdown(wait=True)


def _changed(record: TrialRecord, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a result, if it has changed."""
    return {} if config == record.config else {"config": config}
