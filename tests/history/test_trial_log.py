"""The texts that trials print: bounded, joined at the end of a sweep, and read while they grow."""

import pytest

from raysweep.errors import BadInput
from raysweep.history import log_reader, trial_log
from raysweep.history.journal import Journal
from raysweep.history.trial_log import HEAD_BYTES, TAIL_BYTES, Text
from raysweep.storage import FolderStorage


@pytest.fixture
def place(tmp_path):
    return FolderStorage(str(tmp_path / "s"))


def numbered(count, begin=0):
    return b"".join(b"line %09d\n" % number for number in range(begin, begin + count))  # 15 bytes each


def test_a_short_text_is_kept_as_it_is():
    text = Text()
    text.add(b"one\n")
    text.add(b"two\nthree\n")
    assert (bytes(text), text.grown) == (b"one\ntwo\nthree\n", 14)


@pytest.mark.parametrize("stored_between", [False, True])
def test_of_a_long_one_the_beginning_and_the_end_are_kept_with_what_is_left_out(stored_between):
    text, count = Text(), 2_000_000
    for begin in range(0, count, 50_000):
        text.add(numbered(50_000, begin))
        text = Text(bytes(text)) if stored_between else text
    kept = bytes(text)
    assert HEAD_BYTES + TAIL_BYTES - 100 < len(kept) < HEAD_BYTES + TAIL_BYTES + 100
    [gap] = [line for line in kept.split(b"\n") if not line.startswith(b"line ")][:-1]
    left_out = int(gap.split()[1])
    head, tail = kept.split(gap + b"\n")
    assert len(head) + left_out + len(tail) == text.grown == 15 * count
    assert head == numbered(len(head) // 15)
    assert tail == numbered(len(tail) // 15, count - len(tail) // 15)


def test_a_text_that_is_read_again_loses_its_unfinished_line_only_if_that_is_wanted():
    text = Text(b"one\nhalf a")
    assert (bytes(text), text.rest) == (b"one\nhalf a", b"half a")
    text.join(b"two\n")
    assert bytes(text) == b"one\nhalf a\ntwo\n"


def test_a_reader_gets_what_came_since_or_how_much_of_that_it_missed():
    text = Text()
    text.add(b"one\n")
    shown = text.grown
    text.add(b"two\n")
    assert text.since(shown) == b"two\n"
    assert text.since(text.grown) == b""
    text.add(numbered(1_500_000))
    missed, _, rest = text.since(HEAD_BYTES + 1000).partition(b"\n")
    assert missed == b"[raysweep: %d bytes are left out here]" % (text.grown - len(rest) - HEAD_BYTES - 1000)
    assert len(rest) <= TAIL_BYTES


def test_the_runs_of_a_trial_become_one_text(place):
    place.put(trial_log.key("00003"), b"first\n")
    place.put(trial_log.key("00003", "2-b"), b"third")
    place.put(trial_log.key("00003", "1-a"), b"second\n")
    place.put(trial_log.key("00004", "1-a"), b"of a trial whose first run printed nothing\n")
    place.put("logs/1a2b3c4d/20260101T000000.000000000000.log", b"a RayJob's\n")
    assert bytes(trial_log.read(place, "00003")) == b"first\nsecond\nthird"
    trial_log.join(place)
    names = ["logs/00003.txt", "logs/00004.txt", "logs/1a2b3c4d/20260101T000000.000000000000.log"]
    assert place.list("logs") == names
    assert place.get("logs/00003.txt") == b"first\nsecond\nthird"
    assert bytes(trial_log.read(place, "00004")) == b"of a trial whose first run printed nothing\n"


def test_a_sweep_that_printed_nothing_has_nothing_to_join(place):
    trial_log.join(place)
    assert place.list() == []
    assert bytes(trial_log.read(place, "00003")) == b""


def sweep(place, *events):
    spec = (
        '{"name": "s", "strategy": "grid", "task": "t", "metrics": ["loss"], "modes": ["min"], "seed": 0,'
        ' "samples": 2, "max_iterations": 1, "knobs": {}, "space": {}}'
    )
    place.put("sweep.json", spec.encode())
    journal = Journal(place, 1)
    for type, fields in (("start", {"term": 1, "resumed": False}), *events):
        journal.append(type, **fields)
    return journal


SUGGESTED = ("suggest", {"trial": "00000", "config": {}})


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "", "٣"])
def test_a_trial_has_a_number(place, number):
    sweep(place, SUGGESTED).close()
    found = log_reader.results.read("s", str(place.url).rpartition("/")[0])
    with pytest.raises(BadInput, match=f"^`--trial {number}`: must be the number of a trial, such as 3 or 00003$"):
        log_reader.trial_of(found, number)
    with pytest.raises(BadInput, match=r"^`--trial 7`: the sweep s has the trials 0 to 0: give one of them"):
        log_reader.trial_of(found, "7")
    assert log_reader.trial_of(found, "0") == log_reader.trial_of(found, "00000") == "00000"


def test_a_trial_is_followed_until_it_ends(place, monkeypatch):
    journal = sweep(place, SUGGESTED)
    turns = iter([
        lambda: place.put("logs/00000.txt", b"one\ntwo\nprogress 1"),
        lambda: place.put("logs/00000.txt", b"one\ntwo\nprogress 2"),
        lambda: place.put("logs/00000/1-a.txt", b"again\nhalf"),
        lambda: journal.append("complete", trial="00000", status="finished"),
        lambda: place.put("logs/00000/1-a.txt", b"again\nhalf a line, and the last\nhalf"),  # after its end
        lambda: None,
    ])  # fmt: skip
    monkeypatch.setattr(log_reader.time, "sleep", lambda _: next(turns)())
    shown = list(log_reader.follow("s", str(place.url).rpartition("/")[0], "00000"))
    late = b"half a line, and the last\n"
    assert shown == [b"", b"one\ntwo\n", b"", b"progress 2\nagain\n", b"", late, b"", b"half\n"]
    journal.close()


def test_when_the_driver_has_left_nothing_is_waited_for(place, monkeypatch):
    complete = ("complete", {"trial": "00000", "status": "finished"})
    sweep(place, SUGGESTED, complete, ("end", {"status": "ended"})).close()
    place.put("logs/00000.txt", b"one\nhalf")
    monkeypatch.setattr(log_reader.time, "sleep", lambda _: pytest.fail("it waited"))
    assert list(log_reader.follow("s", str(place.url).rpartition("/")[0], "00000")) == [b"one\n", b"half\n"]
