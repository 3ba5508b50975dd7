"""What goes of an old sweep, for good: all of it, or the checkpoints that nobody will need."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from raysweep.errors import BadInput
from raysweep.history import lease, results, segments
from raysweep.history.export import export_table
from raysweep.history.journal import Journal
from raysweep.history.lease import Lease, Term, claim
from raysweep.history.results import SweepResults
from raysweep.spec.flags import name_problems
from raysweep.storage import Storage, open_storage
from raysweep.storage.files import in_parallel

CHECKPOINTS = "checkpoints"
_LAST = (segments.FOLDER, lease.FOLDER)  # what tells that a sweep was here, until nothing else is left of it


@dataclass(frozen=True)
class Pruned:
    """What was removed, and what stayed.

    Attributes:
        trials: whose checkpoints were removed.
        size: of these, in bytes.
        kept: the trials that have theirs.
    """

    trials: int
    size: int
    kept: tuple[str, ...]


def sweep_at(name: str, storage: str) -> Storage:
    """The folder of a sweep, or of what an interrupted deletion has left of one.

    Raises:
        BadInput: it is neither.
    """
    place = open_storage(storage)
    # A name of another form may be the storage itself, or a folder above it.
    if not name_problems(name) and _is_sweep(place.child(name)):
        return place.child(name)
    raise results.no_sweep(name, storage)


def _is_sweep(place: Storage) -> bool:
    return place.exists("sweep.json") or segments.last_term(place) > 0 or lease.newest(place) is not None


def delete(place: Storage, last: Term | None) -> None:
    """Deletes a sweep: first what makes it one, and last what tells that it was one.

    So a deletion that is interrupted leaves no sweep that looks whole, and can be repeated.

    Args:
        place: the sweep's own folder or prefix.
        last: the term of its last driver, when it was known that none runs it: see `lease.wait_until_free`.

    Raises:
        BadInput: another driver has begun meanwhile; nothing was deleted.
        StorageError: the storage refused, or is not reachable.
    """
    if lease.newest(place) != last:
        raise BadInput(f"the sweep in {place.url} has a new driver: nothing is deleted: wait for its end, or stop it")
    place.delete("sweep.json")
    in_parallel(place.delete, [key for key in place.list() if key.partition("/")[0] not in _LAST])
    for folder in _LAST:
        place.delete_tree(folder)
    if not place.list():  # else a new sweep of this name has begun
        place.delete_tree("")  # empty folders


def prune(place: Storage, notify: Callable[[str], None]) -> Pruned:
    """Removes the checkpoints of an ended sweep, but not those of its best trial, or of its Pareto front.

    The journal has it first: so results and a resume know that they are gone on purpose. What an interrupted call has
    left is removed by the next one.

    Args:
        place: the sweep's own folder or prefix.
        notify: called with one line if there is a wait for the lease.

    Raises:
        BadInput: a driver runs the sweep, it is damaged, or has trials to finish, or no best one.
        StorageError: the storage refused, or is not reachable.
    """
    _kept(place)  # before anything is written
    with claim(place, notify) as held:
        found, kept = _kept(place)
        sizes = place.sizes(CHECKPOINTS)
        gone = sorted({key.split("/")[1] for key in sizes} - {*kept})
        if any(trial.saved for trial in found.state.trials.values() if trial.id not in kept):
            _record(place, held, found, kept)
        if gone and held.holds():
            in_parallel(lambda trial: place.delete_tree(f"{CHECKPOINTS}/{trial}"), gone)
        return Pruned(len(gone), sum(size for key, size in sizes.items() if key.split("/")[1] in gone), kept)


def _record(place: Storage, held: Lease, found: SweepResults, kept: tuple[str, ...]) -> None:
    """Writes the event, and then the table, whose checkpoints are fewer now."""
    events = found.state.events or []
    with closing(Journal(place, held.term, found.state.seq)) as journal:
        event = journal.append("pruned", time=events[-1].get("time", 0.0), kept=kept, at=round(time.time(), 3))
    found.state.apply(event)
    export_table(place, found)


def _kept(place: Storage) -> tuple[SweepResults, tuple[str, ...]]:
    """The sweep, and the trials whose checkpoints stay."""
    found = results.find(place)
    if found is None or found.damage:
        why = found.damage[0] if found else f"{place.url}: there is no sweep any more"
        raise BadInput(f"nothing is removed of a damaged sweep: {why}")
    state, objective = found.state, found.objective
    if state.status != "ended" or state.unfinished:
        raise BadInput(
            f"the sweep in {place.url} has not ended, and a resume may need any checkpoint: finish it with"
            " --resume auto, or remove it with `raysweep delete`"
        )
    kept = results.winners(state, objective)
    if not kept:
        raise BadInput(f"the sweep in {place.url} has no best trial to keep: remove it with `raysweep delete`")
    return found, tuple(trial.id for trial, _ in kept)
