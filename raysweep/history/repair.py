"""Writes a damaged journal anew, from all that can be read of it; asked for with `--repair`.

The driver that holds the lease writes one segment of its own term, which begins with number 1. So every earlier segment
has ended before it began, and is not looked at any more (see `segments`): their files stay as they are. The segment
appears at once or not at all, so a driver that is killed at any moment leaves a journal that is damaged as before, or
one that is whole. The events get new numbers, without gaps.

Trials are numbered without gaps, too. One whose `suggest` is lost gets another: with the configuration that one of its
checkpoints notes (its saved results are then adopted: see loop.adopt_results), or else it has failed.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from raysweep.history import checkpoint as checkpoints
from raysweep.history import segments
from raysweep.history.segments import Event
from raysweep.storage import Storage
from raysweep.values import to_json

LOST = "LostConfiguration: the journal was damaged, and no checkpoint of the trial notes its configuration"


def repair(storage: Storage, term: int, total: int) -> list[str]:
    """Writes the journal anew if it is damaged, or empty.

    Args:
        storage: the sweep's own folder or prefix.
        term: of this driver's lease; it has written nothing yet.
        total: trials of the whole sweep. Of those that only checkpoints know, none with a higher number is restored.

    Returns:
        What was lost and what was restored, a sentence each.

    Raises:
        StorageError: the storage refused, or is not reachable: the journal is as before.
    """
    reading = segments.read(storage)
    if reading.events and not reading.damage:
        return []
    restored = {trial: _noted_config(storage, trial) for trial in _unsuggested(storage, reading.events, total)}
    events = [{"type": "repaired", "damage": reading.damage}, *_with_all_trials(reading.events, restored)]
    now = round(time.time(), 3)
    numbered = ({"seq": number, **_unnumbered({"time": now, **event})} for number, event in enumerate(events, 1))
    lines = "".join(segments.seal(to_json(event)) for event in numbered)
    storage.put(segments.key_of(term, 1), lines.encode())
    return [*reading.damage, *(_restored(trial, config) for trial, config in restored.items())]


def _unnumbered(event: Event) -> Event:
    return {name: value for name, value in event.items() if name != "seq"}


def _restored(trial: str, config: dict[str, Any] | None) -> str:
    if config is None:
        return f"trial {trial}: the journal has lost its configuration, and no checkpoint notes it"
    return f"trial {trial}: the journal has lost its configuration, which is now that of its checkpoints"


def _with_all_trials(events: list[Event], restored: dict[str, dict[str, Any] | None]) -> Iterator[Event]:
    """The events, with a `suggest` for each restored trial, in the order of the trials' numbers."""
    waiting = deque(restored)
    for event in events:
        while waiting and waiting[0] <= event.get("trial", ""):
            yield _suggest(waiting[0], restored[waiting.popleft()])
        yield event
    for trial in waiting:
        yield _suggest(trial, restored[trial])
    ended = {event["trial"] for event in events if event["type"] == "complete"}
    for trial in [trial for trial, config in restored.items() if config is None and trial not in ended]:
        yield {"type": "failure", "trial": trial, "error": LOST, "kind": "exception"}
        yield {"type": "complete", "trial": trial, "status": "failed"}


def _suggest(trial: str, config: dict[str, Any] | None) -> Event:
    return {"type": "suggest", "trial": trial, "config": config or {}}


def _unsuggested(storage: Storage, events: list[Event], total: int) -> list[str]:
    """The trials without a `suggest`, up to the highest number that an event or a checkpoint has."""
    named = {event["trial"] for event in events if "trial" in event}
    saved = {name for name in storage.child("checkpoints").folders() if _number(name) in range(total)}
    count = max((_number(name) for name in named | saved), default=-1) + 1
    suggested = {event["trial"] for event in events if event["type"] == "suggest"}
    return sorted((named | {f"{number:05d}" for number in range(count)}) - suggested)


def _number(trial: str) -> int:
    """The number of a trial; -1 if its name is none."""
    return int(trial) if re.fullmatch(r"\d{5,}", trial, re.ASCII) else -1


def _noted_config(storage: Storage, trial: str) -> dict[str, Any] | None:
    """The configuration that the trial's earliest checkpoint notes."""
    noted = sorted(checkpoints.notes(storage, trial), key=lambda each: each[0].iteration)
    return next((note["config"] for _, note in noted if isinstance(note.get("config"), dict)), None)
