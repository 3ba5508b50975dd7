"""The journal: nothing that was appended is lost, whatever happens to the writer or the storage."""

import contextlib
import json
import os
import resource
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from raysweep.errors import NotFound, StorageError
from raysweep.history import journal, segments
from raysweep.history.journal import Journal, read
from raysweep.storage import FolderStorage, Storage, append_log
from tests.waiting import until


@dataclass(frozen=True)
class MemoryStorage(Storage):
    """An object store: no local path, objects written whole; refuses while `refusing` is set."""

    url: str = "memory://"
    objects: dict[str, bytes] = field(default_factory=dict)
    refusing: threading.Event = field(default_factory=threading.Event)
    refusals: list[str] = field(default_factory=list)

    def put(self, key, data):
        if self.refusing.is_set():
            self.refusals.append(key)
            raise StorageError("503: try again later")
        self.objects[key] = data

    def create(self, key, data): ...

    def get(self, key):
        if key not in self.objects:
            raise NotFound(key)
        return self.objects[key]

    def list(self, prefix=""):
        return sorted(key for key in self.objects if key.startswith(prefix))

    def size(self, key): ...
    def folders(self): ...
    def delete(self, key): ...
    def delete_tree(self, prefix): ...
    def _names(self, error): ...


@pytest.fixture
def folder(tmp_path):
    return FolderStorage(str(tmp_path))


@pytest.fixture
def store():
    return MemoryStorage()


@pytest.fixture(params=["folder", "store"])
def storage(request):
    return request.getfixturevalue(request.param)


def flushed(log):
    """Until the lines of a journal are in its storage."""
    held = getattr(log._sink, "_lines", [])
    until(lambda: not held)


def written(storage, count, after=0, term=1):
    log = Journal(storage, term, after)
    events = [log.append("result", trial="00000", iteration=i) for i in range(1, count + 1)]
    log.close()
    return events


def test_events_come_back_as_they_were_appended(folder):
    events = written(folder, 3)
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert read(folder) == events
    assert abs(events[0]["time"] - time.time()) < 60


def test_there_is_no_event_where_nothing_was_written(folder):
    assert read(folder) == []


def test_numpy_becomes_plain_and_anything_else_text(folder):
    log = Journal(folder, 1)
    config = {"width": np.int64(3), "lr": np.float64(0.5), "act": range(2), "weights": np.array([1, 2])}
    log.append("suggest", config=config, nan=float("nan"))
    log.close()
    [event] = read(folder)
    assert event["config"] == {"width": 3, "lr": 0.5, "act": "range(0, 2)", "weights": "array([1, 2])"}
    assert event["nan"] != event["nan"]


def test_a_line_is_in_the_file_before_append_returns(folder):
    log = Journal(folder, 1)
    for count in range(1, 4):
        log.append("result", trial="00000")
        assert len(read(folder)) == count
    log.close()


def test_a_torn_last_line_is_left_out_wherever_it_was_torn(folder):
    events = written(folder, 3)
    [key] = folder.list("journal/")
    whole = folder.get(key)
    last = len(whole.splitlines(keepends=True)[-1])
    for kept in range(len(whole) - last, len(whole) - 1):
        folder.put(key, whole[:kept])
        assert read(folder) == events[:2], f"torn after {kept} bytes"
    folder.put(key, whole[:-1])  # only the newline is missing
    assert read(folder) == events


def test_the_next_writer_goes_on_where_a_torn_line_began(folder):
    events = written(folder, 3)
    [key] = folder.list("journal/")
    folder.put(key, folder.get(key)[:-4])
    more = written(folder, 2, after=read(folder)[-1]["seq"], term=2)
    assert [event["seq"] for event in more] == [3, 4]
    assert read(folder) == events[:2] + more


def test_segments_of_several_terms_are_one_sequence(folder):
    first, second, third = written(folder, 2), written(folder, 1, after=2, term=2), written(folder, 2, after=3, term=3)
    keys = folder.list("journal/")
    assert keys == [f"journal/{term:06d}-{seq:09d}.jsonl" for term, seq in ((1, 1), (2, 3), (3, 4))]
    assert read(folder) == first + second + third


def test_what_is_written_after_another_driver_began_is_fenced_off(storage):
    suspended = Journal(storage, 1)
    before = [suspended.append("result", trial="00000", iteration=i) for i in (1, 2)]
    flushed(suspended)
    taken_over = written(storage, 3, after=2, term=2)
    suspended.append("result", trial="00000", iteration=3)
    suspended.close()
    assert segments.read(storage) == segments.Reading(before + taken_over, ())


def test_a_term_that_wrote_nothing_fences_nothing(folder):
    events = written(folder, 2)
    Journal(folder, 2, after=2).close()
    assert read(folder) == events


def test_a_folder_that_refuses_a_line_is_a_storage_error(folder):
    log = Journal(folder, 1)
    full = open("/dev/full", "ab", buffering=0)  # noqa: PTH123, SIM115 - a disk without space
    own, log._sink._file = log._sink._file, full
    with pytest.raises(StorageError, match="the journal cannot be written: No space left on device"):
        log.append("result", trial="00000")
    own.close()
    full.close()


@contextlib.contextmanager
def files_of_at_most(size):
    """The disk takes no more than so many bytes of a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_refused_line_leaves_nothing_before_the_next_one(folder):
    log = Journal(folder, 1)
    first = log.append("suggest", trial="00000", config={})
    [key] = folder.list("journal/")
    with files_of_at_most(folder.size(key) + 20):
        with pytest.raises(StorageError, match="the journal cannot be written: File too large"):
            log.append("result", trial="00000", iteration=1)
        assert folder.get(key).endswith(b"\n"), "no half of a line"
        with pytest.raises(StorageError):
            log.append("end", status="interrupted")
    end = log.append("end", status="interrupted")
    log.close()
    assert segments.read(folder) == segments.Reading([first, end], ())
    assert [first["seq"], end["seq"]] == [1, 2], "a refused line has no number"


def test_half_a_line_that_cannot_be_removed_at_once_is_removed_before_the_next(folder):
    log = Journal(folder, 1)
    first = log.append("suggest", trial="00000", config={})
    [key] = folder.list("journal/")
    whole = folder.size(key)
    remove = log._sink._remove_torn
    log._sink._remove_torn = lambda: None  # the file system refuses that, too
    with files_of_at_most(whole + 20), pytest.raises(StorageError):
        log.append("result", trial="00000", iteration=1)
    assert folder.size(key) == whole + 20
    assert segments.read(folder) == segments.Reading([first], ()), "as if the driver had been killed"
    log._sink._remove_torn = remove
    second = log.append("result", trial="00000", iteration=1)
    log.close()
    assert segments.read(folder) == segments.Reading([first, second], ())


def test_a_disk_that_refuses_to_sync_is_a_storage_error(folder, monkeypatch):
    log = Journal(folder, 1)
    log.append("end", status="ended")

    def broken(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageError, match="Input/output error"):
        log.stored(1)
    with pytest.raises(StorageError, match="Input/output error"):
        log.close()


def test_a_file_where_the_journal_belongs_is_a_storage_error(folder):
    folder.put("journal", b"")
    with pytest.raises(StorageError, match="the journal cannot be written: File exists"):
        Journal(folder, 1)


def test_an_object_store_gets_one_object_a_period_not_one_a_line(store, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 60)
    log = Journal(store, 1)
    events = [log.append("result", trial="00000", iteration=i) for i in range(50)]
    assert store.objects == {}
    log.close()
    [key] = store.objects
    assert key == "journal/000001-000000001.jsonl"
    assert read(store) == events


def test_a_suggestion_is_stored_at_once_with_all_that_came_before(store, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 60)
    log = Journal(store, 1)
    events = [log.append("result", trial="00000"), log.append("suggest", trial="00001")]
    until(lambda: read(store) == events)
    log.append("result", trial="00001")
    assert read(store) == events
    log.close()


def test_an_object_store_gets_the_lines_while_the_sweep_runs(store, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.01)
    log = Journal(store, 1)
    first = log.append("result", trial="00000")
    until(lambda: read(store) == [first])
    second = log.append("result", trial="00001")
    until(lambda: read(store) == [first, second])
    log.close()
    assert list(store.objects) == ["journal/000001-000000001.jsonl"]


def test_a_long_sweep_has_few_objects_and_none_of_them_is_large(store, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(append_log, "PART_BYTES", 2000)
    log = Journal(store, 1)
    events = []
    for i in range(100):
        events.append(log.append("result", trial="00000", iteration=i))
        assert log.stored(i + 1)
    log.close()
    assert read(store) == events
    sizes = [len(body) for body in store.objects.values()]
    assert len(sizes) <= sum(sizes) / 2000 + 1
    assert max(sizes) < 2200


def test_what_the_store_took_and_did_not_keep_comes_with_the_next_line(store, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.01)
    log = Journal(store, 1)
    events = [log.append("result", trial="00000")]
    assert log.stored(1)
    store.objects.clear()
    events.append(log.append("result", trial="00001"))
    log.close()
    assert read(store) == events


def test_lines_are_kept_while_the_store_refuses(store, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.01)
    store.refusing.set()
    log = Journal(store, 1)
    events = []
    for i in range(4):
        events.append(log.append("result", trial="00000", iteration=i))
        before = len(store.refusals)
        until(lambda before=before: len(store.refusals) > before + 1)
    assert store.objects == {}
    store.refusing.clear()
    until(lambda: read(store) == events)
    log.close()
    assert read(store) == events


def test_close_writes_what_is_held_back_or_says_that_it_cannot(store, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 60)
    log = Journal(store, 1)
    event = log.append("end", status="ended")
    store.refusing.set()
    with pytest.raises(StorageError, match="503"):
        log.close()
    store.refusing.clear()
    log.close()
    assert read(store) == [event]


def test_an_event_counts_as_stored_when_the_store_has_it(store, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(journal, "DURABLE_SECONDS", 0.3)
    store.refusing.set()
    log = Journal(store, 1)
    event = log.append("result", trial="00000")
    assert not log.stored(event["seq"])
    assert log.stored(event["seq"] - 1), "nobody waits for what is there"
    monkeypatch.setattr(journal, "DURABLE_SECONDS", 30)
    threading.Timer(0.2, store.refusing.clear).start()
    assert log.stored(event["seq"])
    assert read(store) == [event]
    log.close()


def test_a_line_of_a_file_is_stored_when_it_is_on_the_disk(folder, monkeypatch):
    """Which a page cache is not: what is superfluous now must not be removed before."""
    log, synced = Journal(folder, 1), []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), sync(handle)))
    first, second = (log.append("result", trial="00000")["seq"] for _ in range(2))
    assert log.stored(first)
    assert log.stored(second)
    assert len(synced) == 1, "one look at the disk covers all lines before it"
    assert log.stored(log.append("result", trial="00000")["seq"])
    assert len(synced) == 2
    log.close()


def test_terms_in_an_object_store_do_not_overwrite_each_other(store):
    first, second = written(store, 2), written(store, 2, after=2, term=2)
    assert read(store) == first + second


def test_cost_of_an_append(folder):
    metrics = {f"metric_{i}": i / 7 for i in range(10)}
    log = Journal(folder, 1)
    began = time.perf_counter()
    for i in range(1000):
        log.append("result", trial="00000", iteration=i, metrics=metrics)
    each = (time.perf_counter() - began) / 1000
    log.close()
    assert [json.dumps(event["metrics"]) for event in read(folder)] == [json.dumps(metrics)] * 1000
    print(f"an append costs {each * 1e6:.0f} us")
