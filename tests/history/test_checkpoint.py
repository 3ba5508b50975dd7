"""Checkpoints: what is loaded is what was saved, whatever the storage did in between."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import cloudpickle
from tenacity import wait_none

from raysweep.errors import Corrupt, NotFound, StorageError
from raysweep.history import checkpoint, marker
from raysweep.history.checkpoint import Checkpoint
from raysweep.storage import FolderStorage, open_storage
from raysweep.storage.s3 import LARGE
from tests import s3

STATE = {"epoch": 3, "weights": list(range(1000))}


storage = s3.either_storage


@pytest.fixture
def faulty(s3_proxy, monkeypatch):
    s3.use(s3_proxy, monkeypatch)
    return open_storage(f"{s3_proxy.new_bucket()}/runs")


def assert_refused(storage, saved, error):
    for name in (saved, saved.key):
        with pytest.raises(error, match=f"{storage.url}/{saved.key}"):
            checkpoint.load(storage, name)
    assert checkpoint.verified(storage, "t1") == []


def test_loads_what_was_saved(storage):
    saved = checkpoint.save(storage, "t1", 3, STATE)
    assert checkpoint.load(storage, saved) == checkpoint.load(storage, saved.key) == STATE
    assert (saved.iteration, saved.size) == (3, storage.size(f"{saved.key}/state.pkl"))
    assert saved.key == f"checkpoints/t1/000003-{saved.sha256[:8]}"


def test_saves_what_only_cloudpickle_can(storage):
    offset = 2
    saved = checkpoint.save(storage, "t1", 1, lambda value: value + offset)
    assert checkpoint.load(storage, saved)(1) == 3


def test_goes_through_the_journal():
    saved = Checkpoint("checkpoints/t1/000003-abcdef12", 3, 10, "abcdef12" * 8)
    assert Checkpoint.from_dict({**saved.to_dict(), "from": "a newer version"}) == saved


def test_lists_the_oldest_first(storage):
    saved = [checkpoint.save(storage, "t1", iteration, iteration) for iteration in (10, 2, 1_000_000)]
    checkpoint.save(storage, "t10", 1, "another trial")
    assert checkpoint.verified(storage, "t1") == [saved[1], saved[0], saved[2]]


def test_the_marker_is_written_last(storage, monkeypatch):
    written = []
    put = type(storage).put
    monkeypatch.setattr(type(storage), "put", lambda self, key, data: (written.append(key), put(self, key, data)))
    saved = checkpoint.save(storage, "t1", 1, STATE)
    assert written == [f"{saved.key}/state.pkl", f"{saved.key}/complete.json"]


def test_what_looks_whole_has_all_its_bytes(storage):
    saved = checkpoint.save(storage, "a", 1, list(range(100)))
    assert checkpoint.looks_whole(storage, saved)
    data = storage.get(f"{saved.key}/{checkpoint.STATE}")
    storage.put(f"{saved.key}/{checkpoint.STATE}", data[:-1])
    assert not checkpoint.looks_whole(storage, saved)
    storage.put(f"{saved.key}/{checkpoint.STATE}", data)
    storage.delete(f"{saved.key}/{checkpoint.MARKER}")
    assert not checkpoint.looks_whole(storage, saved)
    checkpoint.delete(storage, saved.key)
    assert not checkpoint.looks_whole(storage, saved)


def test_deletes(storage):
    saved = checkpoint.save(storage, "t1", 1, STATE)
    kept = checkpoint.save(storage, "t1", 2, STATE)
    checkpoint.delete(storage, saved.key)
    checkpoint.delete(storage, saved.key)
    assert checkpoint.verified(storage, "t1") == [kept]
    assert storage.list() == [f"{kept.key}/complete.json", f"{kept.key}/state.pkl"]


def test_an_interrupted_delete_leaves_nothing_that_looks_complete(storage, monkeypatch):
    saved = checkpoint.save(storage, "t1", 1, STATE)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "delete_tree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.delete(storage, saved.key)
    assert storage.exists(f"{saved.key}/state.pkl")
    assert_refused(storage, saved, NotFound)


def test_state_without_marker_is_refused(storage):
    saved = checkpoint.save(storage, "t1", 1, STATE)
    storage.delete(f"{saved.key}/complete.json")
    assert_refused(storage, saved, NotFound)


def test_marker_without_state_is_refused(storage):
    saved = checkpoint.save(storage, "t1", 1, STATE)
    storage.delete(f"{saved.key}/state.pkl")
    assert_refused(storage, saved, NotFound)


def flipped(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("damage", [flipped, lambda data: data[:-1], lambda data: b"", lambda data: data + b"\0"])
def test_a_damaged_state_is_refused(storage, damage):
    saved = checkpoint.save(storage, "t1", 1, STATE)
    storage.put(f"{saved.key}/state.pkl", damage(storage.get(f"{saved.key}/state.pkl")))
    assert_refused(storage, saved, Corrupt)


INFINITE = b'{"format": 1, "iteration": 1, "size": Infinity, "sha256": ""}'


@pytest.mark.parametrize(
    "marker",
    [
        *(b"", b'{"format": 1, "size"', b"[]", b"{}", b'{"format": 2}', b'{"format": 1}'),
        *(b"\0" * 99, b"\xff", b"[" * 200_000, INFINITE),
    ],
    ids=lambda content: repr(content[:40]),
)
def test_a_damaged_marker_is_refused(storage, marker):
    saved = checkpoint.save(storage, "t1", 1, STATE)
    storage.put(f"{saved.key}/complete.json", marker)
    assert_refused(storage, saved, Corrupt)


def test_another_checkpoint_under_the_reported_key_is_refused(storage):
    saved = checkpoint.save(storage, "t1", 1, STATE)
    reported = Checkpoint.from_dict({**saved.to_dict(), "sha256": saved.sha256[:8] + "0" * 56})
    assert checkpoint.load(storage, saved.key) == STATE
    with pytest.raises(Corrupt, match="another checkpoint"):
        checkpoint.load(storage, reported)


def test_saving_again_repairs_a_damaged_one(storage):
    saved = checkpoint.save(storage, "t1", 1, STATE)
    storage.put(f"{saved.key}/state.pkl", b"damaged")
    assert checkpoint.save(storage, "t1", 1, STATE) == saved
    assert checkpoint.load(storage, saved) == STATE


def test_a_folder_that_refuses_the_marker_has_no_checkpoint(tmp_path, monkeypatch):
    storage = open_storage(str(tmp_path))
    put = FolderStorage.put

    def refuse_marker(self, key, data):
        if key.endswith("complete.json"):
            raise StorageError("the disk is full")
        put(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "put", refuse_marker)
        with pytest.raises(StorageError, match="full"):
            checkpoint.save(storage, "t1", 1, STATE)
    assert [key.rpartition("/")[2] for key in storage.list()] == ["state.pkl"]
    assert checkpoint.verified(storage, "t1") == []


@pytest.fixture
def at_once(monkeypatch):
    for write in (marker.put_verified, marker.put_file_verified):
        monkeypatch.setattr(write.retry, "wait", wait_none())


def assert_save_fails(storage, proxy, error, state=STATE):
    older = checkpoint.save(storage, "t1", 1, "older")
    with pytest.raises(error) as caught:
        checkpoint.save(storage, "t1", 2, state)
    assert proxy.secret_key not in str(caught.value)
    proxy.heal()
    assert checkpoint.verified(storage, "t1") == [older]
    for key in {key.rpartition("/")[0] for key in storage.list("checkpoints/t1")} - {older.key}:
        with pytest.raises((NotFound, Corrupt)):
            checkpoint.load(storage, key)


def test_a_refused_part_fails_the_save(faulty, s3_proxy):
    s3_proxy.refuse("UploadPart", nth=2)
    assert_save_fails(faulty, s3_proxy, StorageError, state=os.urandom(2 * LARGE))


def test_a_refused_marker_fails_the_save(faulty, s3_proxy):
    s3_proxy.refuse("PutObject", key="complete.json", nth=2)
    assert_save_fails(faulty, s3_proxy, StorageError)


@pytest.mark.parametrize("keep", [0, 20])
@pytest.mark.parametrize("name", ["state.pkl", "complete.json"])
def test_a_store_that_lies_is_caught(faulty, s3_proxy, at_once, name, keep):
    s3_proxy.lose("PutObject", key=f"000002-*{name}", nth=0, keep=keep)
    assert_save_fails(faulty, s3_proxy, (NotFound, Corrupt))


@pytest.mark.parametrize("keep", [0, 20])
@pytest.mark.parametrize("name", ["state.pkl", "complete.json"])
def test_what_a_store_lost_once_is_written_again(faulty, s3_proxy, at_once, name, keep):
    s3_proxy.lose("PutObject", key=name, keep=keep)
    saved = checkpoint.save(faulty, "t1", 1, STATE)
    assert checkpoint.load(faulty, saved) == STATE


@pytest.mark.parametrize("damage", ["state", "marker", "gone"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(storage, damage):
    first, second, third = (checkpoint.save(storage, "t1", number, f"state {number}") for number in (1, 2, 3))
    assert checkpoint.load_newest(storage, third) == (third, "state 3")
    if damage == "gone":
        checkpoint.delete(storage, third.key)
    else:
        name = {"state": checkpoint.STATE, "marker": checkpoint.MARKER}[damage]
        storage.put(f"{third.key}/{name}", b"{")
    assert checkpoint.load_newest(storage, third) == (second, "state 2")
    for each in (first, second):
        checkpoint.delete(storage, each.key)
    assert checkpoint.load_newest(storage, third) == (None, None)


@pytest.mark.parametrize("keep", [0, LARGE - 1])
def test_a_store_that_loses_or_truncates_parts_is_caught(faulty, s3_proxy, at_once, keep):
    s3_proxy.lose("UploadPart", nth=0, keep=keep)
    assert_save_fails(faulty, s3_proxy, Corrupt, state=os.urandom(2 * LARGE))


@pytest.mark.parametrize("keep", [0, LARGE - 1])
def test_a_part_that_a_store_lost_once_is_written_again(faulty, s3_proxy, at_once, keep):
    s3_proxy.lose("UploadPart", nth=2, keep=keep)
    state = os.urandom(2 * LARGE)
    assert checkpoint.load(faulty, checkpoint.save(faulty, "t1", 1, state)) == state


@pytest.mark.parametrize("rows", [1, 1000, 3000])  # 3000 rows are more than is pickled in memory
def test_arrays_of_any_layout_come_back(storage, rows):
    array = np.arange(rows * 400, dtype=np.float64).reshape(rows, 400)
    given = {"c": array, "f": np.asfortranarray(array), "strided": array[::2, ::3], "half": array.astype(np.float32)}
    given |= {"bytes": array.tobytes(), "mutable": bytearray(array.tobytes()), "text": "x" * rows}
    loaded = checkpoint.load(storage, checkpoint.save(storage, "t1", 1, given))
    assert loaded.keys() == given.keys()
    assert all(np.array_equal(loaded[name], given[name]) for name in ("c", "f", "strided", "half"))
    assert all(loaded[name] == given[name] for name in ("bytes", "mutable", "text"))
    loaded["c"] += 1  # it may be trained on


OF_BEFORE = {
    "state.pkl": b"\x80\x05\x95\x0e\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x05epoch\x94K\x03s.",
    "complete.json": b'{"format": 1, "iteration": 3, "size": 25, "sha256": "%s", "note": {"after": null}}',
}


def test_a_checkpoint_of_before_there_were_folders_is_still_read(storage):
    state, mark = OF_BEFORE.values()
    sha256 = hashlib.sha256(state).hexdigest()
    key = f"checkpoints/t1/000003-{sha256[:8]}"
    storage.put(f"{key}/state.pkl", state)
    storage.put(f"{key}/complete.json", mark % sha256.encode())
    saved = Checkpoint.from_dict({"key": key, "iteration": 3, "size": len(state), "sha256": sha256})
    assert checkpoint.load_newest(storage, saved) == (saved, {"epoch": 3})
    assert checkpoint.notes(storage, "t1") == [(saved, {"after": None})]
    assert checkpoint.looks_whole(storage, saved)
    assert checkpoint.save(storage, "t1", 3, {"epoch": 3}).to_dict().keys() == {"key", "iteration", "size", "sha256"}


def on_a_gpu():
    """A tensor, a model and its optimizer, and other things."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "tensor": torch.arange(3.0),
        "weights": model.state_dict(),
        "model": model,
        "optimizer": optimizer.state_dict(),
        "lr": 0.5,
        "name": "mine",
    }


@pytest.mark.parametrize("part", ["tensor", "weights", "model", "optimizer", None])
def test_tensors_of_a_gpu_are_loaded_on_a_machine_without_one(tmp_path, monkeypatch, part):
    storage = FolderStorage(str(tmp_path))
    given = on_a_gpu()
    state = given if part is None else given[part]
    with monkeypatch.context() as gpu:
        gpu.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        saved = checkpoint.save(storage, "t", 1, state)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="CUDA"):
        cloudpickle.loads(storage.get(f"{saved.key}/{checkpoint.STATE}"))
    loaded = checkpoint.load(storage, saved)
    found = loaded if part is None else {part: loaded}
    for name, value in found.items():
        if name == "model":
            assert all(map(torch.equal, value.parameters(), given["model"].parameters()))
        elif name == "optimizer":
            assert torch.equal(value["state"][0]["exp_avg"], given["optimizer"]["state"][0]["exp_avg"])
        elif name == "weights":
            assert all(torch.equal(value[key], weight) for key, weight in given["weights"].items())
        else:
            assert torch.equal(value, given[name]) if name == "tensor" else value == given[name]


def test_torch_is_imported_only_for_a_state_that_has_tensors(tmp_path):
    storage = FolderStorage(str(tmp_path))
    saved = checkpoint.save(storage, "t", 1, {"weights": [1, 2], "function": len})
    script = f"""
import sys
from raysweep.history import checkpoint, marker
from raysweep.storage import FolderStorage
assert checkpoint.load(FolderStorage({storage.url!r}), {saved.key!r}) == {{"weights": [1, 2], "function": len}}
assert "torch" not in sys.modules
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
