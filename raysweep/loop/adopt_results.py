"""Results that a trial saved but no driver journalled: a resume adopts them, so that no saved step is repeated.

When a driver dies, results that are not stored yet are lost: up to a second of them in an object store, and in any
storage the one that was on its way to the driver. The marker of each checkpoint notes the reports since the previous
checkpoint, and which one that was. So the results missing from the journal are a chain of checkpoints that begins where
the journal ends.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from raysweep.history import checkpoint as checkpoints
from raysweep.history.checkpoint import Checkpoint, owner
from raysweep.history.segments import READERS
from raysweep.history.sweep_state import SweepState, TrialRecord
from raysweep.storage import Storage
from raysweep.trial.session import HOST, OPTIMISED, Report
from raysweep.values import TRAINING_ITERATION, to_json

_NOTED: dict[str, Any] = {"after": dict | None, "reports": list, "config": dict, HOST: str}
NotedCheckpoint = tuple[Checkpoint, dict[str, Any]]  # a checkpoint, and the note in its marker
MissingResult = tuple[Report, dict[str, Any]]  # a report, and the trial's configuration at that time


def find(storage: Storage, state: SweepState) -> list[tuple[TrialRecord, Report, dict[str, Any]]]:
    """The results of unfinished trials that are missing from the journal.

    Args:
        storage: the sweep's own folder or prefix.
        state: the sweep's state from the journal, with its events.

    Returns:
        Trials, their reports and their configurations at that time, in a possible order of arrival: no scheduler lets
        a trial continue before those that it waits for.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    events = state.events or []
    recorded = {event["checkpoint"]["key"] for event in events if event["type"] == "result" and event["checkpoint"]}
    exploits = {(event["trial"], event["checkpoint"]["key"]) for event in events if event["type"] == "exploit"}

    def missing(record: TrialRecord) -> list[MissingResult]:
        exploited = [key for trial, key in exploits if trial == record.id]
        noted = checkpoints.notes(storage, record.id, recorded)
        return _chain([each for each in noted if _can_follow(each[1], record)], record, exploited)

    # After a failure, a trial continues from the journal's last checkpoint: a later one may be why it failed.
    records = [record for record in state.unfinished if not (record.failures and record.status == "pending")]
    with ThreadPoolExecutor(READERS) as readers:
        chains = list(zip(records, readers.map(missing, records), strict=True))
    ranked = [(rank, record, *result) for record, chain in chains for rank, result in _ranks(chain)]
    return [(record, report, config) for _, record, report, config in sorted(ranked, key=lambda each: each[0])]


def _can_follow(note: dict[str, Any], record: TrialRecord) -> bool:
    """Whether a note is complete and, of a trial's first checkpoint, about the trial's own configuration.

    Else it is from another life of the sweep: its journal was lost, and this trial began anew.
    """
    if not all(name in note and isinstance(note[name], kind) for name, kind in _NOTED.items()):
        return False
    noted, own = note["config"], record.config
    return bool(note["after"]) or all(name in noted and to_json(noted[name]) == to_json(own[name]) for name in own)


def _ranks(chain: list[MissingResult]) -> list[tuple[int, MissingResult]]:
    """Ranks by iteration; the results of a trial that an exploit set back to an earlier one keep their order."""
    ranks, rank = [], 0
    for result in chain:
        rank = max(rank, result[0].iteration)
        ranks.append((rank, result))
    return ranks


def _chain(unrecorded: list[NotedCheckpoint], record: TrialRecord, exploited: Collection[str]) -> list[MissingResult]:
    """The results of a trial that follow its last one in the journal.

    Args:
        unrecorded: checkpoints of the trial that are missing from the journal.
        record: the trial's state from the journal.
        exploited: keys of other trials' checkpoints that it has continued from.
    """
    missing: list[MissingResult] = []
    current, own = record.checkpoint, record.own_checkpoint
    done = record.last.iteration if record.last and (current is None or own) else current.iteration if current else 0
    while following := _next(unrecorded, current, record.id, exploited):
        unrecorded.remove(following)
        saved, note = following
        after = Checkpoint.from_dict(note["after"]) if note["after"] else None
        is_exploit = after is not None and after != current
        not_metrics = {TRAINING_ITERATION} - set(note.get(OPTIMISED, ()))
        done = after.iteration if after is not None and is_exploit else done
        reports = [report for report in note["reports"] if report[TRAINING_ITERATION] > done]
        if [report[TRAINING_ITERATION] for report in reports] != list(range(done + 1, saved.iteration + 1)):
            break
        missing += [
            (
                Report(
                    iteration=number,
                    metrics={name: value for name, value in report.items() if name not in not_metrics},
                    checkpoint=saved if number == saved.iteration else None,
                    restored=after if is_exploit and number == done + 1 else None,
                    node=note[HOST],
                ),
                note["config"],
            )
            for number, report in enumerate(reports, done + 1)
        ]
        current, done = saved, saved.iteration
    return missing


def _next(
    unrecorded: list[NotedCheckpoint], current: Checkpoint | None, trial: str, exploited: Collection[str]
) -> NotedCheckpoint | None:
    """The checkpoint saved after the current one; if there is none, the one saved after an exploit not recorded yet."""
    following = [each for each in unrecorded if each[1]["after"] == (current.to_dict() if current else None)]
    after_donors = [each for each in unrecorded if each[1]["after"] and owner(each[1]["after"]["key"]) != trial]
    after_exploits = [each for each in after_donors if each[1]["after"]["key"] not in exploited]
    return next(reversed(following or after_exploits), None)
