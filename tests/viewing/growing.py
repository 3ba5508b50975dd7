"""Sweeps that grow as a test says: events as a driver journals them, and what a viewer makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raysweep.history import segments
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import SweepState
from raysweep.storage import FolderStorage, Storage
from raysweep.values import to_json
from raysweep.viewing.tally import Tally
from tests.reporting.sweeps import spec_of

Events = list[dict[str, Any]]


def told(*events: dict[str, Any], **spec: Any) -> Tally:
    """A tally of these events, each a second after the one before if it has no time of its own."""
    tally = Tally()
    tally.anew(SweepResults("runs/mine", spec_of("asha") | {"name": "mine"} | spec, SweepState()))
    for event in numbered(*events):
        tell(tally, event)
    return tally


def numbered(*events: dict[str, Any]) -> Events:
    return [{"seq": n, "time": 1000.0 + n, **event} for n, event in enumerate(events, start=1)]


def tell(tally: Tally, event: dict[str, Any]) -> None:
    tally.sweep.state.apply(event)
    tally.happened(event)


def start(**more: Any) -> dict[str, Any]:
    return {"type": "start", "term": 1, "resumed": False, **more}


def suggest(trial: int, **config: Any) -> dict[str, Any]:
    return {"type": "suggest", "trial": f"{trial:05d}", "config": config}


def result(trial: int, iteration: int, accuracy: float, **more: Any) -> dict[str, Any]:
    told = {"iteration": iteration, "metrics": {"accuracy": accuracy}, "checkpoint": None, "node": "n"}
    return {"type": "result", "trial": f"{trial:05d}", **told, **more}


def complete(trial: int, status: str = "finished") -> dict[str, Any]:
    return {"type": "complete", "trial": f"{trial:05d}", "status": status}


def failure(trial: int, error: str) -> dict[str, Any]:
    return {"type": "failure", "trial": f"{trial:05d}", "error": error, "kind": "exception"}


class Growing:
    """A sweep in a folder, to whose journal a test appends.

    Args:
        folder: of the storage; the sweep is `mine` in it.
        **spec: what its sweep.json says beside the usual.
    """

    def __init__(self, folder: Path, **spec: Any) -> None:
        self.storage, self.place = str(folder), FolderStorage(str(folder / "mine"))
        self.place.put("sweep.json", json.dumps(spec_of("asha") | {"name": "mine"} | spec).encode())
        self.seq = 0

    def append(self, *events: dict[str, Any], term: int = 1) -> None:
        """Journals events, of a driver with this term."""
        lines = []
        for event in events:
            self.seq += 1
            lines.append(sealed({"seq": self.seq, "time": 1000.0 + self.seq, **event}))
        first = self.seq - len(events) + 1
        existing = [key for key in self.place.list("journal") if key.startswith(f"journal/{term:06d}-")]
        write(self.place, existing[0] if existing else segments.key_of(term, first), lines)


def sealed(event: dict[str, Any]) -> bytes:
    """The line of an event."""
    return segments.seal(to_json(event)).encode()


def write(place: Storage, key: str, lines: Iterable[bytes]) -> None:
    """Appends bytes to an object of a folder."""
    path = place.local_path(key)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(lines))
