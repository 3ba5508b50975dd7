"""A sweep's folder that was moved or renamed: its name is its folder's, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray import tune

import raysweep
from raysweep.history import removal, results
from raysweep.history.results import SweepResults
from raysweep.reporting.write import page_of
from raysweep.storage import Storage
from tests import s3
from tests.reporting.sweeps import simulated

storage_of_either_kind = s3.either_storage


def train(config: dict[str, Any]) -> None:
    for step in raysweep.iterations():
        raysweep.report({"loss": config["x"] + step}, state=config["x"])


def run(storage: str, name: str, samples: int, **more: Any) -> SweepResults:
    space = {"x": tune.uniform(0.0, 1.0)}
    settings: dict[str, Any] = {"metric": "loss", "mode": "min", "max_iterations": 2, **more}
    return raysweep.run("random_search", train, space, storage=storage, name=name, samples=samples, **settings)


@pytest.mark.usefixtures("private_ray")
def test_a_moved_and_renamed_sweep_is_resumed_under_its_new_name(tmp_path: Path) -> None:
    before = run(str(tmp_path / "runs"), "old", 2)
    (tmp_path / "archive").mkdir()
    (tmp_path / "runs" / "old").rename(tmp_path / "archive" / "new")
    where = str(tmp_path / "archive")
    found = results.read("new", where)
    assert (found.spec["name"], found.damage, found.rows) == ("new", (), before.rows)
    assert found.load() == before.best["config"]["x"]
    after = run(where, "new", 3, resume="must")
    assert after.rows[:2] == before.rows
    assert after.state.count("finished") == 3
    assert json.loads((tmp_path / "archive" / "new" / "sweep.json").read_text())["name"] == "new"
    assert not (tmp_path / "runs" / "old").exists()


def test_what_was_copied_within_a_store_is_the_same_sweep(storage_of_either_kind: Storage) -> None:
    storage = storage_of_either_kind
    before = simulated("random_search", 3, 2, storage=storage.child("old"), sweep_name="old")
    for key in storage.list("old"):
        storage.copy(key, key.replace("old/", "archive/new/", 1))
    archive = storage.child("archive")
    storage.delete_tree("old")
    found = results.read("new", archive.url)
    assert (found.spec["name"], found.damage, found.rows) == ("new", (), before.rows)
    assert found.load() is not None
    assert "<title>new" in page_of([found]).decode()
    assert results.names(storage.url) == []
    removal.delete(removal.sweep_at("new", archive.url), None)
    assert storage.list() == []
