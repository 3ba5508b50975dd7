"""Results that a trial saved, and no driver journalled: a resume takes them up, so that no saved step is done again.

A driver that dies takes along what was not stored yet: in an object store up to a second of results, anywhere the one
that was on its way to it. The marker of each checkpoint notes the reports since the checkpoint before, and which one
that was. What the journal lacks is then a chain of checkpoints that begins where the journal ends.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from raysweep.history import checkpoint as checkpoints
from raysweep.history.checkpoint import Checkpoint, owner
from raysweep.history.journal import READERS
from raysweep.history.sweep_state import SweepState, TrialRecord
from raysweep.storage import Storage
from raysweep.trial.session import HOST, Report
from raysweep.values import TRAINING_ITERATION

Noted = tuple[Checkpoint, dict[str, Any]]
Missed = tuple[Report, dict[str, Any]]  # a report, and the configuration that it was made with


def find(storage: Storage, state: SweepState) -> list[tuple[TrialRecord, Report, dict[str, Any]]]:
    """What the journal lacks of trials that have not ended.

    Args:
        storage: the sweep's own folder or prefix.
        state: the sweep as the journal has it, with its events.

    Returns:
        Trials, their reports and the configurations that these were made with, in an order in which they may have
        come: no scheduler lets a trial go on before those that it waits for.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    events = state.events or []
    recorded = {event["checkpoint"]["key"] for event in events if event["type"] == "result" and event["checkpoint"]}
    loaded = {(event["trial"], event["checkpoint"]["key"]) for event in events if event["type"] == "exploit"}

    def missing(record: TrialRecord) -> list[Missed]:
        given = [key for trial, key in loaded if trial == record.id]
        return _chain(checkpoints.notes(storage, record.id, recorded), record, given)

    # After a failure a trial goes on from what the journal has: what it saved meanwhile may be why it failed.
    records = [record for record in state.unfinished if not (record.failures and record.status == "pending")]
    with ThreadPoolExecutor(READERS) as readers:
        chains = list(zip(records, readers.map(missing, records), strict=True))
    ranked = [(rank, record, *missed) for record, chain in chains for rank, missed in _ranks(chain)]
    return [(record, report, config) for _, record, report, config in sorted(ranked, key=lambda each: each[0])]


def _ranks(chain: list[Missed]) -> list[tuple[int, Missed]]:
    """By iteration; but for a trial that an exploit took back, whose results stay in their order."""
    ranks, rank = [], 0
    for missed in chain:
        rank = max(rank, missed[0].iteration)
        ranks.append((rank, missed))
    return ranks


def _chain(noted: list[Noted], record: TrialRecord, loaded: Collection[str]) -> list[Missed]:
    """The results that follow the journal's newest of a trial.

    Args:
        noted: checkpoints of the trial that the journal does not know.
        record: the trial as the journal has it.
        loaded: other trials' checkpoints that it has continued from.
    """
    missed: list[Missed] = []
    at, own = record.checkpoint, record.own_checkpoint
    done = record.last.iteration if record.last and (at is None or own) else at.iteration if at else 0
    while found := _next(noted, at, record.id, loaded):
        noted.remove(found)
        saved, note = found
        after = Checkpoint.from_dict(note["after"]) if note["after"] else None
        exploited = after is not None and after != at
        done = after.iteration if after is not None and exploited else done
        reports = [report for report in note["reports"] if report[TRAINING_ITERATION] > done]
        if [report[TRAINING_ITERATION] for report in reports] != list(range(done + 1, saved.iteration + 1)):
            break
        missed += [
            (
                Report(
                    iteration=number,
                    metrics={name: value for name, value in report.items() if name != TRAINING_ITERATION},
                    checkpoint=saved if number == saved.iteration else None,
                    restored=after if exploited and number == done + 1 else None,
                    node=note[HOST],
                ),
                note["config"],
            )
            for number, report in enumerate(reports, done + 1)
        ]
        at, done = saved, saved.iteration
    return missed


def _next(noted: list[Noted], at: Checkpoint | None, trial: str, loaded: Collection[str]) -> Noted | None:
    """What was saved after this; if nothing was, what was saved after another trial's checkpoint, just exploited."""
    following = [each for each in noted if each[1]["after"] == (at.to_dict() if at else None)]
    donors = [each for each in noted if each[1]["after"] and owner(each[1]["after"]["key"]) != trial]
    exploited = [each for each in donors if each[1]["after"]["key"] not in loaded]
    return next(reversed(following or exploited), None)
