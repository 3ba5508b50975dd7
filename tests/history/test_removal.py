"""Deleting a sweep and pruning its checkpoints: in a folder and at a store, interrupted at any moment, and refused."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from raysweep.errors import BadInput, NotFound, StorageError
from raysweep.history import checkpoint, journal, lease, removal, results
from raysweep.history.lease import claim
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import SweepState
from raysweep.loop.simulation import Fault, Step
from raysweep.reporting.ledger import Ledger
from raysweep.storage import FolderStorage, Storage, open_storage
from tests import s3
from tests.reporting.sweeps import curve, simulated

storage = s3.either_storage


def sweep_in(where: Storage, strategy: str = "random_search", **more: Any) -> SweepResults:
    """A sweep named mine that has ended, with checkpoints, and the lease that its driver has left."""
    place = where.child("mine")
    with claim(place):
        return simulated(strategy, 4, 3, storage=place, sweep_name="mine", **more)


def nothing(line: str) -> None:
    raise AssertionError(f"there was a wait: {line}")


def delete(where: Storage) -> None:
    place = removal.sweep_at("mine", where.url)
    removal.delete(place, lease.wait_until_free(place, nothing))


def prune(where: Storage) -> removal.Pruned:
    return removal.prune(removal.sweep_at("mine", where.url), nothing)


def owners(where: Storage) -> set[str]:
    """The trials that have something below checkpoints/."""
    return {key.split("/")[1] for key in where.child("mine").list("checkpoints")}


def test_nothing_is_left_of_a_deleted_sweep_and_its_neighbours_stay(storage: Storage) -> None:
    sweep_in(storage)
    storage.put("mine-too/sweep.json", b"{}")
    delete(storage)
    assert storage.list() == ["mine-too/sweep.json"]
    if path := storage.local_path("mine"):
        assert not path.exists()


class Fails:
    """The so manieth call of a storage's deletions fails, and all after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        for verb in ("delete", "delete_tree"):
            original = getattr(FolderStorage, verb)
            monkeypatch.setattr(FolderStorage, verb, lambda place, key, do=original: self(do, place, key))

    def __call__(self, do: Any, place: Storage, key: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise StorageError("the store went away")
        do(place, key)


def test_an_interrupted_deletion_leaves_no_sweep_that_looks_whole_and_can_be_repeated(tmp_path: Path) -> None:
    sweep_in(open_storage(str(tmp_path / "whole")))
    calls, deleted = 1, False  # the first call makes an end of the sweep
    while not deleted:
        where = open_storage(str(shutil.copytree(tmp_path / "whole", tmp_path / str(calls))))
        with pytest.MonkeyPatch.context() as patch:
            Fails(patch, calls)
            try:
                delete(where)
                deleted = True
            except StorageError:
                left = results.find(where.child("mine"))
                assert left is None or left.damage
        if where.list():
            delete(where)
        assert where.list() == []
        calls += 1
    assert calls > 10


def test_a_sweep_that_a_driver_runs_is_not_deleted(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    sweep_in(storage)
    waits: list[str] = []
    with claim(storage.child("mine")):
        before = storage.list()
        with pytest.raises(BadInput, match=r"is being run by driver .*: wait for its end"):
            lease.wait_until_free(storage.child("mine"), waits.append)
        with pytest.raises(BadInput, match="is being run by driver"):
            removal.prune(storage.child("mine"), waits.append)
        assert storage.list() == before
    assert len(waits) == 2


def test_a_driver_that_began_while_the_user_was_asked_keeps_its_sweep(storage: Storage) -> None:
    sweep_in(storage)
    place = storage.child("mine")
    last = lease.wait_until_free(place, nothing)
    with claim(place):
        before = storage.list()
        with pytest.raises(BadInput, match="has a new driver: nothing is deleted"):
            removal.delete(place, last)
        assert storage.list() == before


@pytest.mark.parametrize("name", ["", ".", "..", "mine/..", "data", "mime", "runs"])
def test_what_is_no_sweep_is_never_deleted(tmp_path: Path, name: str) -> None:
    where = open_storage(str(tmp_path / "runs"))
    sweep_in(where)
    where.put("data/train.csv", b"1,2")
    where.put("journal/sweep.json", b"{}")  # of a sweep with that name
    with pytest.raises(BadInput, match=r"there is no sweep `.*list all with `raysweep results`"):
        removal.sweep_at(name, where.url if name != "runs" else str(tmp_path))


def test_only_the_best_trials_checkpoints_stay(storage: Storage) -> None:
    before = sweep_in(storage)
    best = before.best
    assert best is not None
    state = before.load()
    sizes = storage.child("mine").sizes("checkpoints")
    expected = sum(size for key, size in sizes.items() if key.split("/")[1] != best["trial"])
    pruned = prune(storage)
    assert (pruned.trials, pruned.size, pruned.kept) == (3, expected, (best["trial"],))
    after = results.read("mine", storage.url)
    assert owners(storage) == {best["trial"]}
    assert (after.damage, after.best, after.load()) == ((), best, state)
    assert list(after.table["accuracy"]) == list(before.table["accuracy"])
    assert [isinstance(key, str) for key in after.table["checkpoint"]] == [
        trial == best["trial"] for trial in after.state.trials
    ]
    assert storage.get("mine/trials.csv").count(b"checkpoints/") == 1
    other = next(key for key in before.table["checkpoint"] if key != best["checkpoint"])
    with pytest.raises(NotFound):
        after.load(other)


def test_of_several_objectives_those_of_the_front_stay(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    front = {each["trial"] for each in sweep_in(where, "multi_objective", knobs=OBJECTIVES).front}
    assert {*prune(where).kept} == front == owners(where)


OBJECTIVES = {"second_metric": "size", "second_mode": "min"}


def test_to_prune_again_changes_nothing(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    sweep_in(where)
    kept = prune(where).kept
    events = journal.read(where.child("mine"))
    assert prune(where) == removal.Pruned(0, 0, kept)
    assert journal.read(where.child("mine")) == events


def test_what_an_interrupted_pruning_left_is_removed_by_the_next(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    sweep_in(where)
    with pytest.MonkeyPatch.context() as patch:
        Fails(patch, 1)
        with pytest.raises(StorageError):
            prune(where)
    assert len(owners(where)) > 1
    kept = prune(where).kept
    assert owners(where) == {*kept}


def test_the_time_between_the_end_and_the_pruning_is_not_the_sweeps(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    wall = Ledger.of(sweep_in(where).state.events or []).wall
    prune(where)
    after = results.read("mine", where.url)
    assert Ledger.of(after.state.events or []).wall == wall
    assert after.state.exit_code == 0


def test_a_failed_trial_that_is_tried_again_begins_anew(tmp_path: Path) -> None:
    where, ran = open_storage(str(tmp_path)), []
    fails = {("00001", 3): Fault(RuntimeError("no such layer"), times=99)}
    before = sweep_in(where, faults=fails, max_failures=0)
    assert before.state.trials["00001"].checkpoint
    assert before.best
    assert before.best["trial"] != "00001"
    prune(where)

    def noticed(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Any:
        ran.append((trial, iteration, state))
        return curve(trial, config, iteration, state)

    after = sweep_in(where, outcome=noticed, retry="failed")
    assert ran[0] == ("00001", 1, None)
    assert after.state.count("finished") == 4
    assert after.load() is not None


def test_a_pruned_sweep_can_be_extended(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    sweep_in(where)
    prune(where)
    place = where.child("mine")
    with claim(place):
        after = simulated("random_search", 6, 3, storage=place, sweep_name="mine")
    assert after.state.count("finished") == 6
    assert {"00004", "00005"} < owners(where)


def test_the_state_after_a_pruning_is_the_journals(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    sweep_in(where, "pbt")
    kept = prune(where).kept
    state = SweepState(journal.read(where.child("mine")))
    for trial in state.trials.values():
        saved = [trial.checkpoint, *(each.checkpoint for each in trial.saved)]
        assert {checkpoint.owner(each.key) for each in saved if each} <= {*kept}


def test_a_sweep_that_has_not_ended_is_not_pruned(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    sweep_in(where, time_budget=8.0)
    before = where.list("mine/checkpoints")
    assert before
    with pytest.raises(BadInput, match=r"has not ended, and a resume may need any checkpoint: finish it with --resume"):
        prune(where)
    assert where.list("mine/checkpoints") == before


def test_nor_one_that_is_damaged(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    sweep_in(where)
    where.put("mine/sweep.json", b"{")
    with pytest.raises(BadInput, match=r"nothing is removed of a damaged sweep: .*sweep.json is not what"):
        prune(where)


def test_nor_one_without_a_best_trial(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    sweep_in(where, outcome=lambda *_: Step({"accuracy": math.nan, "size": 1.0}, 1.0, "state"))
    with pytest.raises(BadInput, match="has no best trial to keep: remove it with `raysweep delete`"):
        prune(where)
