"""The sweeps of a storage, each with what it came to, when, and how much it keeps."""

from __future__ import annotations

from dataclasses import dataclass

from raysweep.history import results
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import ENDED
from raysweep.storage import Storage, open_storage
from raysweep.storage.files import in_parallel


@dataclass(frozen=True)
class Entry:
    """One sweep of a storage.

    Attributes:
        name: of its folder.
        strategy: that it runs.
        task: that it tunes.
        trials: that were begun.
        ended: how many of them have ended.
        best: its best value, or how many trials its Pareto front has; empty without a result.
        last: time of its last event, in seconds since the epoch; 0 before the first.
        size: of all that it keeps, in bytes.
        damaged: whether something of it cannot be read or is missing.
    """

    name: str
    strategy: str
    task: str
    trials: int
    ended: int
    best: str
    last: float
    size: int
    damaged: bool


def entries(storage: str) -> list[Entry]:
    """All sweeps of a storage, the one with the newest event first.

    Raises:
        StorageError: the storage refused, or is not reachable.
    """
    place = open_storage(storage)
    found = in_parallel(lambda name: _entry(name, place.child(name)), results.names(storage))
    return sorted((each for each in found if each), key=lambda each: -each.last)


def size(place: Storage) -> int:
    """Bytes of all that a sweep keeps, by one listing."""
    return sum(place.sizes().values())


def _entry(name: str, place: Storage) -> Entry | None:
    """None if it was deleted meanwhile."""
    found = results.find(place)
    if found is None:
        return None
    spec, state, events = found.spec, found.state, found.state.events or []
    return Entry(
        name=name,
        strategy=str(spec.get("strategy", "")),
        task=str(spec.get("task", "")),
        trials=len(state.trials),
        ended=state.count(*ENDED),
        best=_best(found) if spec else "",
        last=float(events[-1].get("time", 0.0)) if events else 0.0,
        size=size(place),
        damaged=bool(found.damage),
    )


def _best(found: SweepResults) -> str:
    objective = found.objective
    leading = results.winners(found.state, objective)
    if not objective.single:
        return f"front of {len(leading)}"
    metric = objective.metrics[0]
    return "".join(f"{metric} {result.metrics[metric]:.6g}" for _, result in leading)
