"""The stored journal: what is damaged is named with file and line, and everything else is read."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysweep.history import segments
from raysweep.history.journal import Journal, to_json
from raysweep.history.segments import Reading, Tail, last_term, read
from raysweep.storage import FolderStorage, Storage

Lines = list[bytes]
FIRST = "journal/000001-000000001.jsonl"


def written(place: Storage, count: int, after: int = 0, term: int = 1) -> list[segments.Event]:
    log = Journal(place, term, after)
    events = [log.append("result", trial="00000", iteration=n) for n in range(1, count + 1)]
    log.close()
    return events


def edit(place: Storage, change: Callable[[Lines], Lines], key: str = FIRST) -> None:
    place.put(key, b"".join(change(place.get(key).splitlines(keepends=True))))


@pytest.fixture
def folder(tmp_path: Path) -> FolderStorage:
    return FolderStorage(str(tmp_path))


UNREADABLE = {
    "noise": b"\xff\xfe#!\n",
    "NUL bytes": b"\0" * 40 + b"\n",
    "half a line": b'{"seq":3,"type":"result","ti\n',
    "another object": b'{"a":1}\n',
    "no object": b"[1, 2]\n",
    "a number": b"3\n",
    "an event without its checksum": b'{"seq":3,"type":"end"}\n',
    "nested without end": b"[" * 200_000 + b"\n",
}


@pytest.mark.parametrize("line", UNREADABLE.values(), ids=UNREADABLE)
def test_a_line_that_is_no_event_is_named_and_those_behind_it_are_read(line: bytes, folder: FolderStorage) -> None:
    events = written(folder, 5)
    edit(folder, lambda lines: [*lines[:2], line, *lines[3:]])
    said = f"{folder.url}/{FIRST}: line 3 is not as written, event 3 is lost"
    assert read(folder) == Reading(events[:2] + events[3:], (said,))


def test_damage_is_named_in_either_storage(either_storage: Storage) -> None:
    events = written(either_storage, 4)
    events += written(either_storage, 3, after=4, term=2)
    edit(either_storage, lambda lines: [lines[0], b"?\n", *lines[2:]])
    edit(either_storage, lambda lines: lines[:1] + lines[2:], "journal/000002-000000005.jsonl")
    found = read(either_storage)
    assert [event["seq"] for event in found.events] == [1, 3, 4, 5, 7]
    assert found.damage == (
        f"{either_storage.url}/{FIRST}: line 2 is not as written, event 2 is lost",
        f"{either_storage.url}/journal/000002-000000005.jsonl: event 6 is missing before line 2",
    )


CHANGES: dict[str, tuple[Callable[[Lines], Lines], list[int], str]] = {
    "first line": (lambda lines: [b"?\n", *lines[1:]], [2, 3, 4, 5], "line 1 is not as written, event 1 is lost"),
    "last line": (lambda lines: [*lines[:4], b"?\n"], [1, 2, 3, 4], "line 5 is not as written"),
    "two lines": (
        lambda lines: [lines[0], b"?\n", b"!\n", *lines[3:]],
        [1, 4, 5],
        "lines 2 to 3 are not as written, events 2 to 3 are lost",
    ),
    "one line cut in two": (
        lambda lines: [lines[0], lines[1][:9] + b"\n", *lines[1:]],
        [1, 2, 3, 4, 5],
        "line 2 is not as written",
    ),
    "two lines joined": (
        lambda lines: [lines[0], lines[1][:9] + lines[2][9:], *lines[3:]],
        [1, 4, 5],
        "line 2 is not as written, events 2 to 3 are lost",
    ),
    "a deleted line": (lambda lines: lines[:2] + lines[3:], [1, 2, 4, 5], "event 3 is missing before line 3"),
    "a deleted beginning": (lambda lines: lines[2:], [3, 4, 5], "events 1 to 2 are missing before line 1"),
    "a repeated line": (
        lambda lines: [*lines[:3], *lines[2:]],
        [1, 2, 3, 4, 5],
        "line 4 has the number 3, which an earlier line has passed",
    ),
    "one changed digit": (
        lambda lines: [lines[0].replace(b'"iteration":1', b'"iteration":7'), *lines[1:]],
        [2, 3, 4, 5],
        "line 1 is not as written, event 1 is lost",
    ),
    "noise instead of a torn line": (lambda lines: [*lines[:4], b"\0\0\0\0"], [1, 2, 3, 4], "line 5 is not as written"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_whatever_is_changed_is_named(case: str, folder: FolderStorage) -> None:
    change, left, said = CHANGES[case]
    events = written(folder, 5)
    edit(folder, change)
    assert read(folder) == Reading([events[n - 1] for n in left], (f"{folder.url}/{FIRST}: {said}",))


def test_lines_in_another_order_are_named_and_read_in_order(folder: FolderStorage) -> None:
    events = written(folder, 4)
    edit(folder, lambda lines: [lines[0], lines[2], lines[1], lines[3]])
    found = read(folder)
    assert found.events == events
    assert [each.partition(": ")[2] for each in found.damage] == [
        "event 2 is missing before line 2",
        "line 3 has the number 2, which an earlier line has passed",
    ]


def test_a_missing_segment_is_named(folder: FolderStorage) -> None:
    for term, after in ((1, 0), (2, 2), (3, 4)):
        written(folder, 2, after, term)
    folder.delete("journal/000002-000000003.jsonl")
    found = read(folder)
    assert [event["seq"] for event in found.events] == [1, 2, 5, 6]
    said = "journal/000003-000000005.jsonl: events 3 to 4 are missing before line 1"
    assert found.damage == (f"{folder.url}/{said}",)


def test_only_a_last_line_without_its_newline_may_be_torn(folder: FolderStorage) -> None:
    events = written(folder, 3)
    whole = folder.get(FIRST)
    last = len(whole.splitlines(keepends=True)[-1])
    for kept in range(len(whole) - last, len(whole) - 1):
        folder.put(FIRST, whole[:kept])
        assert read(folder) == Reading(events[:2], ()), f"torn after {kept} bytes"
    folder.put(FIRST, whole[:-1])
    assert read(folder) == Reading(events, ()), "only the newline is missing"


def test_a_torn_line_of_any_term_is_no_damage(folder: FolderStorage) -> None:
    events = written(folder, 3)
    edit(folder, lambda lines: [*lines[:2], lines[2][:20]])
    again = written(folder, 2, after=2, term=2)
    assert read(folder) == Reading(events[:2] + again, ())


def test_a_driver_that_lost_its_lease_leaves_no_damage(folder: FolderStorage) -> None:
    suspended = Journal(folder, 1)
    before = [suspended.append("result", trial="00000", iteration=n) for n in (1, 2)]
    taken_over = written(folder, 3, after=2, term=2)
    suspended.append("result", trial="00000", iteration=3)
    suspended.close()
    assert read(folder) == Reading(before + taken_over, ())
    # Nor is damage in what nobody reads any more.
    edit(folder, lambda lines: [*lines, b"?\n", b'{"seq":4'])
    assert read(folder) == Reading(before + taken_over, ())


def test_empty_lines_and_line_ends_of_another_system_are_no_damage(folder: FolderStorage) -> None:
    events = written(folder, 3)
    edit(folder, lambda lines: [line.replace(b"\n", b"\r\n") for line in lines] + [b"\n", b"  \n"])
    assert read(folder) == Reading(events, ())


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "notes.txt", "000001-000000001.jsonl~", "old/000001-000000001.jsonl"]
)
def test_a_foreign_file_is_ignored_and_named(name: str, folder: FolderStorage, caplog: Any) -> None:
    events = written(folder, 2)
    folder.put(f"journal/{name}", b"\0\1")
    with caplog.at_level(logging.WARNING):
        assert read(folder) == Reading(events, ())
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder.url}/journal/{name} is ignored: it is no part of the journal"
    ]
    assert last_term(folder) == 1


OLD: list[dict[str, Any]] = [
    {"seq": 1, "type": "start", "term": 1, "resumed": False},
    {"seq": 2, "type": "suggest", "trial": "00000", "config": {"a": 1, "crc32": 5}},
    {"seq": 3, "type": "result", "trial": "00000", "iteration": 1, "metrics": {}, "checkpoint": None, "node": "n"},
    {"seq": 4, "type": "complete", "trial": "00000", "status": "finished"},
]


def old_journal(place: Storage, events: list[Any]) -> None:
    place.put(FIRST, "".join(to_json(event) + "\n" for event in events).encode())


def test_a_journal_of_before_has_no_checksums(folder: FolderStorage) -> None:
    old_journal(folder, OLD)
    more = written(folder, 1, after=4, term=2)
    assert read(folder) == Reading(OLD + more, ())


@pytest.mark.parametrize(
    "event",
    [
        {"type": "end"},
        {"seq": "3", "type": "end"},
        {"seq": True, "type": "end"},
        {"seq": 3},
        {"seq": 3, "type": ["end"]},
        {"seq": 3, "type": "set_status"},
        {"seq": 3, "type": "suggest", "trial": "00001"},
        {"seq": 3, "type": "suggest", "trial": 1, "config": {}},
        {"seq": 3, "type": "suggest", "trial": "00001", "config": []},
        {"seq": 3, "type": "result", "trial": "00000", "iteration": 1, "metrics": {}, "node": "n"},
        {"seq": 3, "type": "result", "trial": "00000", "iteration": 1, "metrics": {}, "checkpoint": {}, "node": "n"},
        {"seq": 3, "type": "failure", "trial": "00000", "error": "?"},
        {"seq": 3, "type": "complete", "trial": "00000", "status": None},
    ],
    ids=json.dumps,
)
def test_without_checksums_an_event_has_to_have_its_fields(event: Any, folder: FolderStorage) -> None:
    old_journal(folder, [*OLD[:2], event, OLD[3]])
    said = f"{folder.url}/{FIRST}: line 3 is not as written, event 3 is lost"
    assert read(folder) == Reading([*OLD[:2], OLD[3]], (said,))


def test_a_number_out_of_all_bounds_costs_nothing(folder: FolderStorage) -> None:
    old_journal(folder, [*OLD[:2], {**OLD[2], "seq": 10**15}, OLD[3]])
    found = read(folder)
    assert [event["seq"] for event in found.events] == [1, 2, 4, 10**15]
    assert len(found.damage) == 2


def test_what_is_appended_is_read_once_in_either_storage(either_storage: Storage) -> None:
    log = Journal(either_storage, 1)
    events = [log.append("suggest", trial="00000", config={})]
    assert log.stored(1)
    tail = Tail(either_storage)
    assert tail.take(1) == []
    for count in (1, 3):
        new = [log.append("result", trial="00000", iteration=n) for n in range(count)]
        assert log.stored(new[-1]["seq"])
        assert tail.take(len(events)) == new
        events += new
        assert tail.take(len(events)) == []
    log.close()
    assert read(either_storage).events == events


def test_events_that_are_known_already_are_left_out(folder: FolderStorage) -> None:
    written(folder, 1)
    tail = Tail(folder)
    edit(folder, lambda lines: [*lines, segments.seal(to_json({"seq": 2, "type": "end"})).encode()])
    assert tail.take(2) == []
    edit(folder, lambda lines: [*lines, segments.seal(to_json({"seq": 3, "type": "end"})).encode()])
    assert tail.take(2) == [{"seq": 3, "type": "end"}]


def test_a_line_that_is_being_written_is_waited_for(folder: FolderStorage) -> None:
    written(folder, 1)
    tail = Tail(folder)
    line = segments.seal(to_json({"seq": 2, "type": "end"})).encode()
    edit(folder, lambda lines: [*lines, line[:9]])
    assert tail.take(1) == []
    edit(folder, lambda lines: [lines[0], line])
    assert tail.take(1) == [{"seq": 2, "type": "end"}]


@pytest.mark.parametrize(
    "line", [b"?\n", segments.seal('{"seq":7,"type":"end"}').encode(), b'{"seq":6,"type":"end","crc32":1}\n']
)
def test_what_is_not_as_it_was_written_has_to_be_read_as_a_whole(line: bytes, folder: FolderStorage) -> None:
    written(folder, 5)
    tail = Tail(folder)
    edit(folder, lambda lines: [*lines, line])
    assert tail.take(5) is None


def test_another_driver_has_to_be_read_as_a_whole_and_an_earlier_one_does_not_count(folder: FolderStorage) -> None:
    written(folder, 2)
    first = Tail(folder)
    written(folder, 1, after=2, term=2)
    assert first.take(2) is None
    second = Tail(folder)
    edit(folder, lambda lines: [*lines, segments.seal('{"seq":3,"type":"end"}').encode()])  # it was suspended
    assert second.take(3) == []


def test_a_journal_that_was_listed_in_the_middle_of_a_line_is_read_as_a_whole(folder: FolderStorage) -> None:
    written(folder, 2)
    whole = folder.get(FIRST)
    folder.put(FIRST, whole[:-5])
    tail = Tail(folder)
    folder.put(FIRST, whole)
    assert tail.take(1) is None
