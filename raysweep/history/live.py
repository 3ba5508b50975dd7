"""What only the driver of a running sweep knows, as of now: `live.json`, which goes with the end of the sweep."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, fields

from raysweep.errors import NotFound
from raysweep.storage import Storage

NAME = "live.json"


@dataclass(frozen=True)
class Live:
    """The places of a sweep, and its estimate.

    Attributes:
        term: of the driver's lease.
        time: when this was so, in seconds since the epoch, by the driver's clock.
        total: trials of the whole sweep.
        places: of trials, whose processes have started.
        busy: of these, in how many a trial runs or cleans up.
        starting: places that were requested beside these.
        nodes: on which the places are.
        seconds_left: estimated, see `loop.progress`; None if there are too few results for that.
    """

    term: int
    time: float
    total: int
    places: int
    busy: int
    starting: int
    nodes: int
    seconds_left: float | None

    def write(self, storage: Storage) -> None:
        """Puts it into the sweep's storage."""
        storage.put(NAME, json.dumps(asdict(self)).encode())


def read(storage: Storage) -> Live | None:
    """What the driver wrote last; None if there is nothing that can be read."""
    with contextlib.suppress(NotFound, ValueError, TypeError, KeyError):
        stored = json.loads(storage.get(NAME))
        return Live(**{each.name: stored[each.name] for each in fields(Live)})
    return None
