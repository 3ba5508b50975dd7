"""The journal as it is stored: lines in numbered segments. Reads them, and names what is damaged.

A segment is `journal/<term>-<number of its first event>.jsonl`. A line is an event as JSON, whose last field is a
checksum of all before it; segments of earlier versions have none. The events are numbered from 1 without gaps. Where a
later term begins, an earlier one ends: what an earlier driver wrote after that is ignored.

Only the last line of a segment may be incomplete, without its newline: its driver was killed. Any other line that is no
event, and any number that is missing, is damage. It is named, and never guessed around.
"""

from __future__ import annotations

import json
import logging
import math
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from raysweep.storage import Storage

log = logging.getLogger(__name__)
Event = dict[str, Any]

FOLDER = "journal"
READERS = 16
CHECKSUM = "crc32"
_NAME = re.compile(rf"{FOLDER}/(\d{{6,}})-(\d{{9,}})\.jsonl")
_SEAL = f',"{CHECKSUM}":'.encode()
_SEALED = re.compile(_SEAL + rb"\d+\}\s*$", re.MULTILINE)
# What an event without a checksum must have: none of these fields can be missing when it is used.
_FIELDS: dict[str, dict[str, Any]] = {
    "start": {},
    "suggest": {"trial": str, "config": dict},
    "result": {"trial": str, "iteration": int, "metrics": dict, "checkpoint": dict | None, "node": str},
    "exploit": {"trial": str, "donor": str, "checkpoint": dict, "after": dict},
    "damaged": {"trial": str, "checkpoint": str},
    "failure": {"trial": str, "error": str, "kind": str},
    "retry": {"trial": str},
    "complete": {"trial": str, "status": str},
    "end": {},
}
_CHECKPOINT = {"key", "iteration", "size", "sha256"}


@dataclass(frozen=True)
class Reading:
    """What a journal holds.

    Attributes:
        events: all that can be read, in order.
        damage: what cannot be read or is missing, with file and line; empty for an intact journal.
    """

    events: list[Event]
    damage: tuple[str, ...]


class _Line(NamedTuple):
    key: str
    row: int  # in its segment, from 1
    number: int  # of its event; a guess, if the line is no event
    event: Event | None


def key_of(term: int, first: int) -> str:
    """The key of the segment in which a term begins with this number."""
    return f"{FOLDER}/{term:06d}-{first:09d}.jsonl"


def seal(event: str) -> str:
    """The line of an event: its JSON with the checksum, and a newline."""
    body = event[:-1]
    return f'{body},"{CHECKSUM}":{zlib.crc32(body.encode())}}}\n'


def last_term(storage: Storage) -> int:
    """The last term that has a segment; 0 if there is none."""
    return max((term for term, _, _ in _segments(storage.list(FOLDER))), default=0)


def _segments(keys: list[str]) -> list[tuple[int, int, str]]:
    """Term, first number and key of those that are segments, in order."""
    return sorted((int(name[1]), int(name[2]), key) for key in keys if (name := _NAME.fullmatch(key)))


def read(storage: Storage) -> Reading:
    """Reads the whole journal of a sweep.

    Args:
        storage: the sweep's own folder or prefix.
    """
    terms: dict[int, list[_Line]] = {}
    begins: dict[int, int] = {}
    keys = storage.list(FOLDER)
    segments = _segments(keys)
    for key in sorted(set(keys) - {key for _, _, key in segments}):
        log.warning("%s/%s is ignored: it is no part of the journal", storage.url, key)
    with ThreadPoolExecutor(READERS) as readers:  # an object store is slow, but serves requests in parallel
        contents = readers.map(storage.get, [key for _, _, key in segments])
        for (term, first, key), content in zip(segments, contents, strict=True):
            if lines := list(_lines(key, first, content)):  # a term that wrote nothing ends no other one
                begins.setdefault(term, first)
                terms.setdefault(term, []).extend(lines)
    current: list[_Line] = []
    end = math.inf
    for term in sorted(terms, reverse=True):
        current[:0] = [line for line in terms[term] if line.number < end]
        end = min(end, begins[term])
    return _reading(current, storage.url)


class Tail:
    """What is appended to a journal from now on, by the driver that runs now: nothing is read twice.

    Args:
        storage: the sweep's own folder or prefix.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._taken = {key: size for key, size in storage.sizes(FOLDER).items() if size}
        self._term = max((term for term, _, _ in _segments(list(self._taken))), default=0)

    def take(self, after: int) -> list[Event] | None:
        """The events that follow the one with this number.

        None if the journal has to be read as a whole: there is another driver, or something is not as it was written.

        Args:
            after: number of the last event that is known already.
        """
        sizes, events = self._storage.sizes(FOLDER), list[Event]()
        for term, first, key in _segments(list(sizes)):
            taken = self._taken.get(key, 0)
            if term < self._term or sizes[key] <= taken:  # what an earlier driver still writes does not count
                continue
            content = self._storage.get_from(key, max(taken - 1, 0))
            if term > self._term or (taken and not content.startswith(b"\n")):
                return None
            begin, end = min(taken, 1), content.rfind(b"\n") + 1
            for line in _lines(key, first, content[begin:end]):
                if line.event is None or line.number > after + 1:
                    return None
                if line.number == after + 1:
                    events.append(line.event)
                    after += 1
            self._taken[key] = taken + max(end - begin, 0)
        return events


def _lines(key: str, first: int, content: bytes) -> Iterator[_Line]:
    sealed = _SEALED.search(content) is not None
    *rows, rest = content.split(b"\n")
    number = first - 1
    for row, text in enumerate([*rows, rest], start=1):
        event = _event(text, sealed)
        if event is None and (not text.strip() or (row > len(rows) and _is_torn(text))):
            continue
        number = event["seq"] if event else number + 1
        yield _Line(key, row, number, event)


def _event(text: bytes, sealed: bool) -> Event | None:
    """The event of a line; None if it is not one, or not as it was written."""
    body, _, checksum = text.rpartition(_SEAL)
    if sealed and checksum.rstrip() != b"%d}" % zlib.crc32(body):
        return None
    try:
        event: Event = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    if sealed:
        del event[CHECKSUM]
        return event
    return event if _is_event(event) else None


def _is_event(value: Any) -> bool:
    if not isinstance(value, dict) or type(value.get("seq")) is not int or str(value.get("type")) not in _FIELDS:
        return False
    fields, saved = _FIELDS[value["type"]], value.get("checkpoint")
    complete = all(name in value and isinstance(value[name], kind) for name, kind in fields.items())
    return complete and (not isinstance(saved, dict) or saved.keys() >= _CHECKPOINT)


def _is_torn(text: bytes) -> bool:
    """Whether a last line without its newline is the beginning of an event: its driver was killed."""
    begin = b'{"seq":'
    return text.isascii() and b"\0" not in text and (text.startswith(begin) or begin.startswith(text))


def _reading(lines: list[_Line], url: str) -> Reading:
    events: dict[int, Event] = {}
    damage: list[str] = []
    unreadable: list[_Line] = []  # since the last event
    last = 0
    for line in lines:
        if line.event is None:
            unreadable.append(line)
        elif line.number <= last:
            damage.append(f"{line.key}: line {line.row} has the number {line.number}, which an earlier line has passed")
            events.setdefault(line.number, line.event)
        else:
            damage += _lost(unreadable, range(last + 1, line.number), line)
            events[line.number], last, unreadable = line.event, line.number, []
    damage += _lost(unreadable, range(0), None)
    return Reading([events[number] for number in sorted(events)], tuple(f"{url}/{text}" for text in damage))


def _lost(unreadable: list[_Line], numbers: range, following: _Line | None) -> list[str]:
    """What is to be said about unreadable lines, the numbers that are lost with them, and the event that follows."""
    lost = _plural("event", numbers.start, numbers.stop - 1) if numbers else ""
    if not unreadable:
        return [f"{following.key}: {lost} missing before line {following.row}"] if following and numbers else []
    said = []
    for key, group in groupby(unreadable, key=lambda line: line.key):
        rows = [line.row for line in group]
        said.append(f"{key}: {_plural('line', rows[0], rows[-1])} not as written")
    return [*said[:-1], f"{said[-1]}, {lost} lost"] if lost else said


def _plural(what: str, first: int, last: int) -> str:
    return f"{what} {first} is" if first == last else f"{what}s {first} to {last} are"
