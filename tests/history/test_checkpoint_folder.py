"""Checkpoints that are folders: what comes back is what was there, and what is kept already is not sent again."""

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from tenacity import wait_none

from raysweep.errors import BadInput, Corrupt, NotFound, StorageError
from raysweep.history import checkpoint, marker
from raysweep.history.checkpoint import Checkpoint
from raysweep.history.checkpoint_folder import has_all
from raysweep.storage import FolderStorage, open_storage
from raysweep.storage.files import AT_ONCE, CHUNK
from raysweep.storage.s3 import LARGE
from tests import s3

storage = s3.either_storage


@pytest.fixture
def faulty(s3_proxy, monkeypatch):
    s3.use(s3_proxy, monkeypatch)
    monkeypatch.setattr(marker.put_verified.retry, "wait", wait_none())
    monkeypatch.setattr(marker.put_file_verified.retry, "wait", wait_none())
    return open_storage(f"{s3_proxy.new_bucket()}/runs")


@pytest.fixture
def folder(tmp_path):
    """A checkpoint as frameworks write it."""
    made = tmp_path / "mine"
    (made / "shards" / "0").mkdir(parents=True)
    (made / "logs" / "empty").mkdir(parents=True)
    (made / "weights").write_bytes(os.urandom(2 * CHUNK + 7))
    (made / "shards" / "0" / "adam").write_bytes(b"moments")
    (made / "tokenizer.json").write_text("{}")
    (made / "done").touch()
    return made


def content(folder):
    """All that is in a folder: contents, targets of links, folders."""
    found = {}
    for path in folder.rglob("*"):
        kind = str(path.readlink()) if path.is_symlink() else path.is_dir() or path.read_bytes()
        found[path.relative_to(folder).as_posix()] = kind
    return found


def loaded(storage, saved, into):
    """What is in a checkpoint."""
    assert checkpoint.load(storage, saved, lambda: into) == into
    found = content(into)
    shutil.rmtree(into)
    return found


ODD = ["a b", "ü", "a%2Fb", "a+b", "#x?y=1", "a\nb", " lead", "tail ", "a&<b>", ".x.tmp", "'\"", "😀", "n" * 255]
ODD += ["complete.json", "state.pkl"]


def test_everything_comes_back(storage, folder, tmp_path):
    for number, name in enumerate(ODD):
        (folder / name).write_text(str(number))
    (folder / "latest").symlink_to("shards/0")
    (folder / "logs" / "to").symlink_to(folder / "weights")
    there = content(folder) | {"logs/to": "../weights"}  # a link is kept relative: the folder comes back elsewhere
    saved = checkpoint.save_folder(storage, "t1", 3, folder, {"note": 1})
    shutil.rmtree(folder)
    assert loaded(storage, saved, tmp_path / "back") == there
    assert loaded(storage, saved.key, tmp_path / "back") == there
    assert checkpoint.verified(storage, "t1") == [saved]
    assert checkpoint.notes(storage, "t1") == [(saved, {"note": 1})]
    assert checkpoint.looks_whole(storage, saved)
    assert saved.size == sum(len(each) for each in there.values() if isinstance(each, bytes))
    assert saved.key.startswith("checkpoints/t1/000003-")
    assert Checkpoint.from_dict(saved.to_dict()) == saved
    checkpoint.delete(storage, saved.key)
    assert storage.list() == []


def test_an_empty_folder_is_a_checkpoint_too(storage, tmp_path):
    (tmp_path / "mine").mkdir()
    saved = checkpoint.save_folder(storage, "t1", 1, tmp_path / "mine")
    assert loaded(storage, saved, tmp_path / "back") == {}
    assert checkpoint.verified(storage, "t1") == [saved]


def test_where_to_put_the_files_must_be_said(storage, folder):
    saved = checkpoint.save_folder(storage, "t1", 1, folder)
    with pytest.raises(BadInput, match=rf"checkpoint `{saved.key}` is a folder of files: say where to put them"):
        checkpoint.load(storage, saved)


def test_the_marker_is_written_last(tmp_path, folder):
    written = []

    @dataclass(frozen=True)
    class Watched(FolderStorage):
        def put_file(self, key, source):
            written.append(key)
            return super().put_file(key, source)

        def put(self, key, data):
            written.append(key)
            super().put(key, data)

    saved = checkpoint.save_folder(Watched(str(tmp_path / "runs")), "t1", 1, folder)
    files = {f"{saved.key}/files/{name}" for name in ("weights", "shards/0/adam", "tokenizer.json", "done")}
    assert set(written[:-1]) == files
    assert written[-1] == f"{saved.key}/complete.json"


def test_files_are_sent_at_the_same_time(tmp_path):
    together = threading.Barrier(AT_ONCE)

    @dataclass(frozen=True)
    class Together(FolderStorage):
        def put_file(self, key, source):
            together.wait(20)
            return super().put_file(key, source)

    (tmp_path / "mine").mkdir()
    for number in range(AT_ONCE):
        (tmp_path / "mine" / str(number)).write_text(str(number))
    checkpoint.save_folder(Together(str(tmp_path / "runs")), "t1", 1, tmp_path / "mine")


# What cannot be saved.


def leaves(folder):
    (folder.parent / "hub").write_text("weights of somebody else")
    (folder / "shards" / "link").symlink_to(folder.parent / "hub")


def leaves_as_a_folder(folder):
    (folder / "shards" / "link").symlink_to("../..")


def dangles(folder):
    (folder / "shards" / "link").symlink_to("nothing")


def loops(folder):
    (folder / "shards" / "link").symlink_to("link")


def pipes(folder):
    os.mkfifo(folder / "shards" / "link")


def backslash(folder):
    (folder / "shards" / "a\\b").touch()


def latin(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/shards/\xe9")).touch()


def file(folder):
    shutil.rmtree(folder)
    folder.touch()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (leaves, r"link `shards/link` leaves the folder, to .*/hub: put a copy of that into the folder$"),
        (leaves_as_a_folder, r"link `shards/link` leaves the folder, to "),
        (dangles, r"link `shards/link` leads nowhere: remove it$"),
        (loops, r"link `shards/link` leads nowhere: remove it$"),
        (pipes, r"`shards/link` is neither a file, a folder nor a link: remove it$"),
        (backslash, r"the name 'shards/a\\\\b' has a backslash or is not UTF-8: rename it$"),
        (latin, r"the name 'shards/\\udce9' has a backslash or is not UTF-8: rename it$"),
        (file, r"must be a folder: write the files there before report$"),
        (shutil.rmtree, r"must be a folder: write the files there before report$"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_sent(tmp_path, folder, spoil, said):
    place = FolderStorage(str(tmp_path / "runs"))
    spoil(folder)
    with pytest.raises(ValueError, match=f"^`checkpoint={folder}`: {said}"):
        checkpoint.save_folder(place, "t1", 1, folder)
    assert place.list() == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda folder: (folder / "weights").write_bytes(b"of the next epoch"), "weights"),
        (lambda folder: os.utime(folder / "weights"), "weights"),
        (lambda folder: (folder / "weights").unlink(), "weights"),
        (lambda folder: (folder / "new").touch(), "new"),
        (lambda folder: (folder / "new").symlink_to("weights"), "new"),
        (shutil.rmtree, "done"),
    ],
)
def test_what_changes_while_it_is_saved_is_named_and_there_is_no_checkpoint(tmp_path, folder, change, name):
    once = threading.Lock()

    @dataclass(frozen=True)
    class Changing(FolderStorage):
        def put_file(self, key, source):
            if once.acquire(blocking=False):
                change(folder)
            return super().put_file(key, source)

    place = Changing(str(tmp_path / "runs"))
    with pytest.raises(RuntimeError, match=rf"^`checkpoint={folder}`: .*`{name}`.* changed while it was saved"):
        checkpoint.save_folder(place, "t1", 1, folder)
    assert place.list() == []


# What is kept already.


def asked(proxy, operation):
    """The files of which something was asked."""
    return {key.partition("/files/")[2] for name, key in proxy.requests if name == operation} - {""}


def test_what_the_checkpoint_before_has_is_not_sent_again(faulty, s3_proxy, folder, tmp_path):
    first = checkpoint.save_folder(faulty, "t1", 1, folder)
    s3_proxy.requests.clear()
    (folder / "weights").write_bytes(os.urandom(2 * CHUNK + 7))  # as long as before
    (folder / "tokenizer.json").rename(folder / "words.json")
    second = checkpoint.save_folder(faulty, "t2", 2, folder, before=first)
    assert asked(s3_proxy, "PutObject") == asked(s3_proxy, "GetObject") == {"weights"}
    assert asked(s3_proxy, "CopyObject") == {"shards/0/adam", "words.json", "done"}
    there = content(folder)
    checkpoint.delete(faulty, first.key)
    assert loaded(faulty, second, tmp_path / "back") == there


def test_a_large_file_is_copied_in_the_store(faulty, s3_proxy, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights").write_bytes(os.urandom(2 * LARGE))
    first = checkpoint.save_folder(faulty, "t1", 1, tmp_path / "mine")
    assert asked(s3_proxy, "UploadPart") == {"weights"}
    s3_proxy.requests.clear()
    second = checkpoint.save_folder(faulty, "t1", 2, tmp_path / "mine", before=first)
    assert asked(s3_proxy, "UploadPart") == set()
    assert checkpoint.verified(faulty, "t1") == [first, second]


def test_in_a_folder_an_unchanged_file_takes_no_room(tmp_path, folder):
    place = FolderStorage(str(tmp_path / "runs"))
    first = checkpoint.save_folder(place, "t1", 1, folder)
    (folder / "done").write_text("now")
    second = checkpoint.save_folder(place, "t1", 2, folder, before=first)
    same = [
        place.local_path(f"{first.key}/files/{name}").samefile(place.local_path(f"{second.key}/files/{name}"))
        for name in ("weights", "shards/0/adam", "done")
    ]
    assert same == [True, True, False]


@pytest.mark.parametrize("damage", ["gone", "file", "shorter", "marker", "state"])
def test_what_can_not_be_copied_is_sent(storage, folder, tmp_path, damage):
    first = checkpoint.save_folder(storage, "t1", 1, folder)
    if damage == "gone":
        checkpoint.delete(storage, first.key)
    elif damage == "file":
        storage.delete(f"{first.key}/files/weights")
    elif damage == "shorter":
        storage.put(f"{first.key}/files/weights", b"1")
    elif damage == "marker":
        storage.put(f"{first.key}/complete.json", b"{")
    else:
        first = checkpoint.save(storage, "t1", 1, "a state")
    second = checkpoint.save_folder(storage, "t1", 2, folder, before=first)
    assert loaded(storage, second, tmp_path / "back") == content(folder)


def test_a_store_that_loses_a_copy_is_noticed(faulty, s3_proxy, folder, tmp_path):
    first = checkpoint.save_folder(faulty, "t1", 1, folder)
    s3_proxy.lose("CopyObject", key="files/weights")
    second = checkpoint.save_folder(faulty, "t1", 2, folder, before=first)
    assert loaded(faulty, second, tmp_path / "back") == content(folder)
    assert asked(s3_proxy, "CopyObject") == set(content(folder)) - {"shards", "shards/0", "logs", "logs/empty"}


# What the storage does.


@pytest.mark.parametrize("damage", ["damaged", "shorter", "missing", "marker", "list", "gone"])
def test_a_damaged_folder_is_passed_over_for_the_one_before_it(storage, folder, tmp_path, damage):
    first = checkpoint.save_folder(storage, "t1", 1, folder)
    there = content(folder)
    (folder / "weights").write_bytes(os.urandom(CHUNK))
    second = checkpoint.save_folder(storage, "t1", 2, folder, before=first)
    weights, mark = f"{second.key}/files/weights", f"{second.key}/complete.json"
    if damage == "damaged":
        storage.put(weights, storage.get(weights)[:-1] + b"!")
    elif damage == "shorter":
        storage.put(weights, b"1")
    elif damage == "missing":
        storage.delete(weights)
    elif damage == "marker":
        storage.put(mark, b"{")
    elif damage == "list":
        storage.put(mark, storage.get(mark).replace(b"tokenizer", b"t0kenizer"))
    else:
        checkpoint.delete(storage, second.key)
    assert checkpoint.looks_whole(storage, second) is (damage == "damaged"), "which only reading it tells"
    assert checkpoint.load_newest(storage, second, lambda: tmp_path / "back") == (first, tmp_path / "back")
    assert content(tmp_path / "back") == there
    assert checkpoint.verified(storage, "t1") == [first]


def test_a_folder_may_follow_a_state_and_a_state_a_folder(storage, folder, tmp_path):
    state = checkpoint.save(storage, "t1", 1, "a state")
    saved = checkpoint.save_folder(storage, "t1", 2, folder, before=state)
    last = checkpoint.save(storage, "t1", 3, "another state")
    assert checkpoint.verified(storage, "t1") == [state, saved, last]
    storage.delete(f"{last.key}/state.pkl")
    assert checkpoint.load_newest(storage, last, lambda: tmp_path / "back")[0] == saved
    storage.delete(f"{saved.key}/files/weights")
    assert checkpoint.load_newest(storage, last, lambda: tmp_path / "again") == (state, "a state")


@pytest.mark.parametrize("keep", [0, 5])
def test_a_file_that_a_store_lost_once_is_written_again(faulty, s3_proxy, folder, tmp_path, keep):
    s3_proxy.lose("PutObject", key="files/shards/0/adam", keep=keep)
    saved = checkpoint.save_folder(faulty, "t1", 1, folder)
    assert loaded(faulty, saved, tmp_path / "back") == content(folder)


def test_so_is_one_of_which_it_lost_a_part(faulty, s3_proxy, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "weights").write_bytes(os.urandom(2 * LARGE))
    s3_proxy.lose("UploadPart", nth=2)
    saved = checkpoint.save_folder(faulty, "t1", 1, tmp_path / "mine")
    assert checkpoint.verified(faulty, "t1") == [saved]


@pytest.mark.parametrize("keep", [None, 0, 5])
def test_a_store_that_goes_on_so_has_no_checkpoint_and_nothing_of_it(faulty, s3_proxy, folder, keep):
    if keep is None:
        s3_proxy.refuse("PutObject", key="files/shards/0/adam", nth=0, status=403)
    else:
        s3_proxy.lose("PutObject", key="files/shards/0/adam", nth=0, keep=keep)
    with pytest.raises(StorageError, match=f"^{faulty.url}/checkpoints/t1/000001-.*/files/shards/0/adam: "):
        checkpoint.save_folder(faulty, "t1", 1, folder)
    assert faulty.list() == []
    s3_proxy.heal()
    saved = checkpoint.save_folder(faulty, "t1", 1, folder)
    assert checkpoint.verified(faulty, "t1") == [saved]


def test_what_a_killed_process_left_is_removed_and_nothing_else(storage, folder):
    state, saved = checkpoint.save(storage, "t1", 1, "a state"), checkpoint.save_folder(storage, "t1", 2, folder)
    other = checkpoint.save_folder(storage, "t10", 1, folder)
    storage.put("checkpoints/t1/000003-abcdabcd/files/weights", b"half of it")
    checkpoint.drop_unfinished(storage, "t1")
    assert not storage.list("checkpoints/t1/000003-abcdabcd")
    assert checkpoint.verified(storage, "t1") == [state, saved]
    assert checkpoint.verified(storage, "t10") == [other]


def test_only_sizes_are_compared_to_see_what_is_there(storage, folder):
    saved = checkpoint.save_folder(storage, "t1", 1, folder)
    tree, files = marker.read(storage, saved.key).tree, f"{saved.key}/files"
    assert has_all(storage, files, tree)
    storage.put(f"{files}/tokenizer.json", b"[]")
    assert has_all(storage, files, tree)
    storage.delete(f"{files}/tokenizer.json")
    assert not has_all(storage, files, tree)
    with pytest.raises((NotFound, Corrupt)):
        checkpoint.load(storage, saved, lambda: folder / "back")
    assert not (folder / "back").exists()


def peak_of(work):
    """MiB that this process needs more while it works."""
    status = Path("/proc/self/status")
    before = int(status.read_text().partition("VmRSS:")[2].split()[0])
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM is counted anew
    work()
    return (int(status.read_text().partition("VmHWM:")[2].split()[0]) - before) / 1024


def test_memory_does_not_grow_with_the_files(s3_server, monkeypatch, tmp_path):
    s3.use(s3_server, monkeypatch)
    place = open_storage(s3_server.new_bucket())
    (tmp_path / "mine").mkdir()
    for number in range(3):
        with (tmp_path / "mine" / str(number)).open("wb") as sparse:
            sparse.truncate(80 * 2**20)
    saved = []
    assert peak_of(lambda: saved.append(checkpoint.save_folder(place, "t1", 1, tmp_path / "mine"))) < 200
    assert peak_of(lambda: checkpoint.load(place, saved[0], lambda: tmp_path / "back")) < 200


def test_a_large_state_is_never_in_memory_twice(tmp_path):
    place, state = FolderStorage(str(tmp_path)), [bytearray(60 * 2**20), bytearray(60 * 2**20)]
    saved = []
    assert peak_of(lambda: saved.append(checkpoint.save(place, "t1", 1, state))) < 40
    assert peak_of(lambda: saved.append(checkpoint.load(place, saved[0]))) < 180  # of which it is 120 itself
    assert saved[1] == state
