"""What a trial has printed, for who asks for it: also while its sweep runs, and when its cluster is gone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from raysweep.errors import BadInput
from raysweep.history import lease, results, trial_log
from raysweep.history.results import SweepResults
from raysweep.storage import Storage, open_storage

ENDED = ("ended", "interrupted")  # status of a sweep


def trial_of(found: SweepResults, number: str) -> str:
    """The id of the trial with this number.

    Raises:
        BadInput: it is no number, or the sweep has no such trial.
    """
    if not re.fullmatch(r"\d{1,18}", number, re.ASCII):
        raise BadInput(f"`--trial {number}`: must be the number of a trial, such as 3 or 00003")
    trials = found.state.trials
    if f"{int(number):05d}" not in trials:
        range_ = f"has the trials 0 to {len(trials) - 1}: give one of them" if trials else "has begun no trial yet"
        raise BadInput(f"`--trial {number}`: the sweep {found.spec['name']} {range_}")
    return f"{int(number):05d}"


def follow(name: str, storage: str, trial: str) -> Iterator[bytes]:
    """What a trial has printed and prints, until it ends or its sweep does; unfinished lines come at the end.

    A process stores the last lines of a trial soon after the trial's end. They are waited for, until a later look finds
    no more of them; or until the sweep's driver has left, who waits for them, too.

    Args:
        name: of the sweep.
        storage: where the sweeps are.
        trial: the trial's id.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    place, grown, over = open_storage(storage).child(name), 0, False
    while True:
        had_ended, found = over, results.read(name, storage)
        over = found.state.trials[trial].ended or found.state.status in ENDED
        complete = found.state.status in ENDED and _driver_has_left(place)  # asked before the text is read
        text = trial_log.read(place, trial)
        yield text.since(grown)
        if complete or (had_ended and text.grown == grown):
            yield text.rest and text.rest + b"\n"
            return
        grown = text.grown
        time.sleep(trial_log.pause(text.size))


def _driver_has_left(place: Storage) -> bool:
    newest = lease.newest(place)
    return newest is None or newest.free
