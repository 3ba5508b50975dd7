"""The results of a sweep, running or ended, kept up to date by what is appended to its journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from raysweep.history import results
from raysweep.history.results import SweepResults
from raysweep.history.segments import Event, Tail
from raysweep.history.sweep_state import SweepState
from raysweep.storage import open_storage


class Viewer(Protocol):
    """Is told all events of a sweep, each after the state has it."""

    def anew(self, sweep: SweepResults) -> None:
        """All events follow, from the first one; the state of this sweep will have them."""

    def happened(self, event: Event) -> None:
        """The next event."""


class Followed:
    """A sweep that is looked at again and again; each time only what is new is read.

    Only when another driver has taken over, or something is not as it was written, everything is read once more.

    Args:
        name: of the sweep.
        storage: where the sweeps are.
        viewer: is told the events.
        keeps_events: whether the state keeps them: of a long sweep they are many.

    Raises:
        BadInput: there is no such sweep.
        StorageError: its sweep.json is damaged, or the storage refused.

    Attributes:
        place: the sweep's own folder or prefix.
        sweep: the results so far.
    """

    def __init__(self, name: str, storage: str, viewer: Viewer | None = None, keeps_events: bool = False) -> None:
        self._name, self._storage, self._viewer, self._keeps_events = name, storage, viewer, keeps_events
        self.place = open_storage(storage).child(name)
        self._read_all()

    def update(self) -> bool:
        """Reads what is new; returns whether there was something.

        Raises:
            StorageError: the storage refused; the next call tries again.
        """
        events = self._tail.take(self.sweep.state.seq)
        if events is None:
            self._read_all()
            return True
        self._fold(events)
        return bool(events)

    def _read_all(self) -> None:
        tail = Tail(self.place)  # what is written while the rest is read comes next
        found = results.read(self._name, self._storage)
        self._tail, state = tail, SweepState()
        if not self._keeps_events:
            state.take_events()
        self.sweep = replace(found, state=state)
        if self._viewer:
            self._viewer.anew(self.sweep)
        self._fold(found.state.take_events())

    def _fold(self, events: Iterable[Event]) -> None:
        for event in events:
            self.sweep.state.apply(event)
            if self._viewer:
                self._viewer.happened(event)
