"""The lease: one driver at a time, whoever is killed, suspended or cut off, and whoever comes at the same moment."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from raysweep.errors import BadInput, StorageError, SweepFailed
from raysweep.history import lease, segments
from raysweep.history.journal import Journal
from raysweep.history.lease import Lease, claim
from raysweep.storage import FolderStorage, open_storage
from tests import s3
from tests.waiting import until, within

HOLDER = """
import sys, time
from raysweep.history.lease import claim
from raysweep.storage import open_storage
print(claim(open_storage(sys.argv[1])).term, flush=True)
time.sleep(60)
"""


storage = s3.either_storage


@pytest.fixture
def folder(tmp_path):
    return open_storage(str(tmp_path / "runs"))


@pytest.fixture
def quick(monkeypatch):
    """The same rules, with less patience."""
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(lease, "LAPSE_SECONDS", 1.0)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.02)


@pytest.fixture
def living(quick, monkeypatch):
    """The same, but a holder that lives is never taken for dead, however busy the machine is."""
    monkeypatch.setattr(lease, "LAPSE_SECONDS", 60.0)


@pytest.fixture
def elsewhere(monkeypatch):
    """From now on this process is on another machine: no pid of before means anything."""
    return lambda: monkeypatch.setattr(lease, "_place", lambda: "another machine")


@contextlib.contextmanager
def holder(storage):
    """A driver of its own that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, storage.url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip().isdigit()
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        process.stdout.close()


def silent(held: Lease) -> None:
    """The holder renews no more, as if its machine had been switched off."""
    held._closing.set()
    held._thread.join()


def test_terms_count_up_and_a_released_one_is_followed_at_once(storage):
    for term in (1, 2, 3):
        held = claim(storage)
        assert held.term == term
        assert held.holds()
        held.release()
    assert storage.list("lease") == ["lease/000001.json", "lease/000002.json", "lease/000003.json"]


def test_an_outage_while_a_second_driver_waits_is_no_sign_of_the_first_ones_death(
    folder, quick, elsewhere, monkeypatch
):
    held = claim(folder)
    silent(held)  # nor can it renew
    elsewhere()
    newest, looks = lease.newest, []

    def away(storage):
        found = newest(storage)
        looks.append(found)
        if len(looks) == 3:
            time.sleep(1.2)  # longer than a lapse
            held._put(beat=held._term.beat + 1)  # the first thing that a driver does when the storage is back
        return found

    monkeypatch.setattr(lease, "newest", away)
    with pytest.raises(BadInput, match="is being run by"):
        claim(folder)


def test_a_driver_lives_on_when_somebody_sets_the_clock(folder, quick, monkeypatch):
    held = claim(folder)
    monkeypatch.setattr("psutil.Process.create_time", lambda self: 0.0)
    assert not held._term.free
    held.release()


def test_a_second_driver_is_refused_and_told_who_holds_it(storage, living):
    first = claim(storage)
    with pytest.raises(BadInput, match=rf"is being run by driver \w+ on .* \(pid {os.getpid()}\): wait for its end"):
        claim(storage)
    assert first.holds()
    first.check()
    first.release()


def test_a_second_driver_is_refused_within_five_seconds(folder):
    first = claim(folder)
    with within(5), pytest.raises(BadInput):
        claim(folder)
    first.release()


def test_of_drivers_that_come_at_the_same_moment_one_gets_it(storage, living):
    outcomes, start = [], threading.Barrier(6)

    def come():
        start.wait()
        try:
            outcomes.append(claim(storage))
        except BadInput:
            outcomes.append(None)

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [outcome for outcome in outcomes if outcome]
    assert len(outcomes) == 6
    winner.release()


def test_a_killed_driver_of_this_machine_is_followed_at_once(folder):
    with holder(folder) as process:
        process.kill()
        process.wait()
        with within(2):
            claim(folder).release()


def test_a_lapsed_term_of_another_machine_is_followed_after_a_wait(folder, quick, elsewhere):
    first, told = claim(folder), []
    silent(first)
    elsewhere()
    began = time.monotonic()
    second = claim(folder, told.append)
    assert time.monotonic() - began >= lease.LAPSE_SECONDS
    assert second.term == 2
    assert [line[:30] for line in told] == [f"the sweep was run by driver {first._term.holder}"[:30]]
    second.release()


def test_a_suspended_driver_finds_out_and_stops(folder, quick):
    with holder(folder) as process:
        process.send_signal(signal.SIGSTOP)
        second = claim(folder)
        assert second.term == 2
        process.send_signal(signal.SIGCONT)
        time.sleep(0.3)
        assert second.holds(), "the one that woke up has not taken it back"
        second.release()


def test_the_loser_hears_of_it(folder, quick):
    first = claim(folder)
    newer = replace(first._term, number=2, holder="newer")
    assert folder.create(newer.key, newer.to_json())
    assert not first.holds()
    with pytest.raises(SweepFailed, match=r"driver newer .* has taken the sweep over"):
        first.check()
    first.release()
    assert b'"released": false' in folder.get(newer.key)


def test_one_that_slept_asks_before_its_next_step(folder, monkeypatch):
    """Its thread has not looked yet: a trial would do a step that is another driver's."""
    monkeypatch.setattr(lease, "RENEW_SECONDS", 60.0)
    first = claim(folder)
    newer = replace(first._term, number=2, holder="newer")
    assert folder.create(newer.key, newer.to_json())
    first.check()
    first._checked -= lease.LAPSE_SECONDS
    with pytest.raises(SweepFailed, match=r"driver newer .* has taken the sweep over"):
        first.check()
    first.release()


def test_one_that_slept_through_an_outage_goes_on(folder, monkeypatch):
    def away(*_):
        raise StorageError("away")

    held = claim(folder)
    monkeypatch.setattr(FolderStorage, "exists", away)
    held._checked -= lease.LAPSE_SECONDS
    held.check()
    monkeypatch.undo()
    held.release()


def test_a_pid_that_is_used_again_is_not_the_holder(folder):
    first = claim(folder)
    silent(first)
    folder.put(first._term.key, replace(first._term, born=first._term.born - 100).to_json())
    claim(folder).release()


def test_an_outage_of_the_storage_is_no_loss_of_the_lease(s3_proxy, monkeypatch, quick):
    s3.use(s3_proxy, monkeypatch)
    storage = open_storage(f"{s3_proxy.new_bucket()}/runs")
    held = claim(storage)
    s3_proxy.unavailable()
    time.sleep(1.5 * lease.LAPSE_SECONDS)
    s3_proxy.heal()
    assert held.holds()
    beat = held._term.beat
    until(lambda: held._term.beat != beat, "it is renewed no more")
    held.release()


def test_a_failure_is_told_once_and_again_when_its_reason_changes(s3_proxy, monkeypatch, quick, caplog):
    s3.use(s3_proxy, monkeypatch)
    held = claim(open_storage(f"{s3_proxy.new_bucket()}/runs"))
    try:
        for code in ("ExpiredToken", "AccessDenied"):
            s3_proxy.refuse(nth=0, status=403, code=code)
            until(lambda code=code: code in caplog.text, "it is not told")
            before = len(s3_proxy.requests)
            until(lambda before=before: len(s3_proxy.requests) > before + 10, "it is not tried again")
            s3_proxy.faults.clear()
    finally:
        s3_proxy.heal()
        held.release()
    told = [record.getMessage() for record in caplog.records]
    assert [code for message in told for code in ("ExpiredToken", "AccessDenied") if code in message] == [
        "ExpiredToken",
        "AccessDenied",
    ]


DAMAGED = {
    "empty": b"",
    "half": b'{"number": 1, "hol',
    "a list": b"[1]",
    "other fields": b'{"a": 1}',
    "another number": b'{"number": 7, "holder": "a", "place": "b", "host": "c", "pid": 1, "born": 1.0}',
    "wrong types": b'{"number": 1, "holder": "a", "place": "b", "host": "c", "pid": "1", "born": 1.0}',
    "no text": b"\xff\0",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_term_is_followed_when_it_has_lapsed(content, folder, quick):
    folder.put("lease/000001.json", content)
    told, began = [], time.monotonic()
    held = claim(folder, told.append)
    assert (held.term, len(told)) == (2, 1)
    assert "an unknown driver (lease/000001.json is damaged): waiting" in told[0]
    assert time.monotonic() - began >= lease.LAPSE_SECONDS
    held.release()


def test_the_holder_of_a_damaged_term_mends_it_and_stays_the_holder(folder, living):
    first = claim(folder)
    folder.put(first._term.key, b"?")
    with pytest.raises(BadInput, match=rf"is being run by driver \w+ .* \(pid {os.getpid()}\)"):
        claim(folder)
    assert first.holds()
    first.release()


def test_a_damaged_newer_term_ends_this_one(folder, quick):
    first = claim(folder)
    assert folder.create("lease/000002.json", b"?")
    assert not first.holds()
    with pytest.raises(
        SweepFailed, match=r"an unknown driver \(lease/000002\.json is damaged\) has taken the sweep over"
    ):
        first.check()
    first.release()


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "notes.txt", "000001.json~", "copy/000009.json"])
def test_foreign_files_are_no_terms(name, folder):
    claim(folder).release()
    folder.put(f"lease/{name}", b"\0")
    held = claim(folder)
    assert held.term == 2
    held.release()


def test_a_driver_whose_lease_somebody_removed_does_not_write_before_the_journals_end(folder):
    """Else its events had an older term than those before them: the next driver would ignore all of them."""
    before = []
    for term in (1, 2):
        claim(folder).release()
        log = Journal(folder, term, len(before))
        before.append(log.append("end", status="interrupted"))
        log.close()
    folder.delete_tree("lease")
    held = claim(folder)
    assert held.term == 3
    log = Journal(folder, held.term, 2)
    log.append("end", status="ended")
    log.close()
    held.release()
    assert [event["seq"] for event in segments.read(folder).events] == [1, 2, 3]
