"""The sweeps of a storage: a row each, with sizes by one listing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysweep.history import inventory, results
from raysweep.storage import Storage, open_storage
from tests import s3
from tests.reporting.sweeps import simulated

storage = s3.either_storage


def sweep(where: Storage, name: str, strategy: str = "random_search", **more: Any) -> results.SweepResults:
    return simulated(strategy, 4, 3, storage=where.child(name), sweep_name=name, **more)


def test_each_sweep_has_a_row_with_all_that_it_keeps(storage: Storage) -> None:
    found = sweep(storage, "mine")
    storage.put("mine/left-by-a-user.bin", b"0" * 1000)
    storage.put("data/train.csv", b"1,2")
    [entry] = inventory.entries(storage.url)
    best = found.best
    assert best is not None
    assert (entry.name, entry.strategy, entry.task) == ("mine", "random_search", "digits")
    assert (entry.trials, entry.ended, entry.damaged) == (4, 4, False)
    assert entry.best == f"accuracy {best['accuracy']:.6g}"
    assert entry.last == (found.state.events or [])[-1]["time"]
    assert entry.size == sum(len(storage.get(key)) for key in storage.list("mine")) > 1000


def test_the_newest_is_the_first(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    sweep(where, "b")
    sweep(where, "a")
    sweep(where, "c")
    assert [each.name for each in inventory.entries(where.url)] == ["c", "a", "b"]


def test_of_several_objectives_the_front_is_counted(tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    found = sweep(where, "two", "multi_objective", knobs={"second_metric": "size", "second_mode": "min"})
    assert [each.best for each in inventory.entries(where.url)] == [f"front of {len(found.front)}"]


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_damaged_sweep_has_a_row_too(content: bytes | None, tmp_path: Path) -> None:
    where = open_storage(str(tmp_path))
    sweep(where, "mine")
    where.put("mine/lease/000001.json", b"")
    where.delete("mine/sweep.json")
    if content:
        where.put("mine/sweep.json", content)
    [entry] = inventory.entries(where.url)
    assert (entry.name, entry.strategy, entry.trials, entry.best, entry.damaged) == ("mine", "", 4, "", True)


def test_a_sweep_that_is_deleted_meanwhile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = open_storage(str(tmp_path))
    sweep(where, "mine")
    monkeypatch.setattr(results, "names", lambda storage: ["gone", "mine"])
    assert [each.name for each in inventory.entries(where.url)] == ["mine"]


def test_a_file_that_goes_while_it_is_measured_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = open_storage(str(tmp_path))
    where.put("a", b"1")
    files = type(where)._files
    monkeypatch.setattr(type(where), "_files", lambda self, prefix: [*files(self, prefix), ("b", tmp_path / "b")])
    assert where.sizes() == {"a": 1}
