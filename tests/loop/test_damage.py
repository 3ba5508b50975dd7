"""A journal that is damaged anywhere: it is named or harmless, and a repaired sweep goes on to its end."""

from __future__ import annotations

import functools
import gc
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raysweep.history import results, segments
from raysweep.history.repair import repair
from raysweep.history.sweep_state import SweepState
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.storage import FolderStorage
from tests.loop.sweeps import Mortal, bowl, events_of, killed_after, run

EVENTS, SAMPLES = 25, 6
STRATEGIES = ("random_search", "asha", "pbt", "hyperband", "tpe_asha", "median_stopping", "cma_es")
Change = tuple[str, int, int, bytes]

steady = settings(derandomize=True, database=None, deadline=None, max_examples=150)


@functools.cache
def killed(name: str) -> Mortal:
    """A sweep whose driver was killed."""
    return killed_at(EVENTS, name)


def killed_at(events: int, name: str) -> Mortal:
    """A sweep whose driver was killed when its journal had so many events, and nothing of it goes on."""
    before = set(threading.enumerate())
    place = killed_after(events, name, bowl, samples=SAMPLES, places=3)
    gc.collect()  # of its recorder: the thread that deletes old checkpoints ends with it
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), thread.name
    return place


def copy_of(name: str) -> Mortal:
    def copied(tree: dict[str, Any]) -> dict[str, Any]:
        return {key: copied(value) if isinstance(value, dict) else bytes(value) for key, value in tree.items()}

    return Mortal(tree=copied(killed(name).tree), lives=[float("inf")])


def changed(content: bytes, change: Change) -> bytes:
    kind, begin, size, noise = change
    lines = content.splitlines(keepends=True)
    at, line = begin % len(content), begin % len(lines)
    if kind == "overwritten":
        return content[:at] + noise + content[at + len(noise) :]
    if kind == "zeroed":
        return content[:at] + b"\0" * len(content[at : at + size]) + content[at + size :]
    if kind == "cut out":
        return content[:at] + content[at + size :]
    if kind == "inserted":
        return content[:at] + noise + content[at:]
    if kind == "line deleted":
        return b"".join(lines[:line] + lines[line + 1 + size % 3 :])
    if kind == "line repeated":
        return b"".join(lines[: line + 1] + lines[line:])
    return b"".join(lines[:line] + sorted(lines[line:], reverse=True))


changes = st.tuples(
    st.sampled_from(
        ["overwritten", "zeroed", "cut out", "inserted", "line deleted", "line repeated", "lines in another order"]
    ),
    st.integers(0, 20_000),
    st.integers(1, 2_000),
    st.binary(min_size=1, max_size=40),
)


@steady
@given(change=changes)
@example(change=("overwritten", 300, 1, b"7"))
def test_damage_is_named_or_harmless(change: Change) -> None:
    place = copy_of("random_search")
    [key] = place.list("journal")
    before, content = events_of(place), place.get(key)
    place.put(key, damaged := changed(content, change))
    found = segments.read(place)
    if found.damage:
        assert all(key in each for each in found.damage)
    elif damaged == content[: len(damaged)] or not damaged.endswith(b"\n"):
        # What a killed driver leaves, too: an end that was never written.
        assert found.events == before[: len(found.events)]
        assert len(found.events) >= damaged.count(b"\n")
    else:
        assert found.events == before
    SweepState(found.events)  # shows what there is


@pytest.mark.parametrize("name", STRATEGIES)
@settings(steady, max_examples=25)
@given(change=changes)
@example(change=("cut out", 0, 100_000, b""))
@example(change=("line deleted", 1, 1, b""))
def test_a_repaired_sweep_goes_on_to_its_end(name: str, change: Change) -> None:
    place = copy_of(name)
    [key] = place.list("journal")
    place.put(key, changed(place.get(key), change))
    repair(place, segments.last_term(place) + 1, SAMPLES)
    assert segments.read(place).damage == ()
    state = run(name, samples=SAMPLES, places=3, storage=place)
    assert list(state.trials) == [f"{n:05d}" for n in range(SAMPLES)]
    assert all(trial.ended for trial in state.trials.values())
    assert all(trial.config or trial.status == "failed" for trial in state.trials.values())
    assert segments.read(place).damage == ()


@pytest.mark.parametrize("events", [2, 5, 12, 30, 45])
def test_a_sweep_whose_journal_was_emptied_goes_on_with_the_trials_that_saved(events: int) -> None:
    place = killed_at(events, "random_search")
    configs = {trial.id: trial.config for trial in SweepState(events_of(place)).trials.values()}
    [key] = place.list("journal")
    place.put(key, b"")
    repair(place, 2, SAMPLES)
    state = run("random_search", samples=SAMPLES, places=3, storage=place)
    assert state.count("finished") == SAMPLES
    assert configs.items() <= {trial.id: trial.config for trial in state.trials.values()}.items()


def test_a_trial_that_begins_anew_takes_no_result_of_the_life_before() -> None:
    """Its journal was lost, and somebody chose to begin the sweep anew beside the old checkpoints."""
    place = killed_at(12, "random_search")
    old = {trial.id: trial.config for trial in SweepState(events_of(place)).trials.values()}
    place.delete_tree("journal")
    fresh = killed_at(4, "random_search")
    [key] = fresh.list("journal")
    other = [event | {"config": {"x": 0.5, "width": 9}} if "config" in event else event for event in events_of(fresh)]
    place.put(key, "".join(segments.seal(json.dumps(event)) for event in other).encode())
    state = run("random_search", samples=SAMPLES, places=3, storage=place)
    for trial in SweepState(other).trials:
        assert state.trials[trial].config == {"x": 0.5, "width": 9} != old[trial]
        assert all(result.config == {"x": 0.5, "width": 9} for result in state.trials[trial].results.values())


@pytest.fixture
def folder(tmp_path: Path) -> FolderStorage:
    return FolderStorage(str(tmp_path / "s"))


def test_a_repair_of_an_intact_sweep_changes_nothing(folder: FolderStorage) -> None:
    before = run("asha", storage=folder, places=2)
    shutil.copytree(folder.url, f"{folder.url}-copy")
    assert repair(folder, 9, SAMPLES) == []
    after = run("asha", storage=folder, places=2)
    assert {t.id: t.status for t in after.trials.values()} == {t.id: t.status for t in before.trials.values()}


def test_files_derived_from_the_journal_are_not_needed(folder: FolderStorage) -> None:
    state = run("random_search", storage=folder)
    folder.put("trials.csv", b"\0")
    folder.put("best.json", b"{")
    found = results.find(folder)
    assert found is not None
    assert found.damage[0].startswith(f"{folder.url}/sweep.json is missing, although there is")
    assert {t.id: t.status for t in found.state.trials.values()} == {t.id: t.status for t in state.trials.values()}


def test_a_journal_in_memory_has_checksums_too() -> None:
    place = MemoryStorage()
    run("random_search", storage=place)
    [key] = place.list("journal")
    place.put(key, place.get(key).replace(b'"iteration":3', b'"iteration":4', 1))
    [said] = segments.read(place).damage
    assert "is not as written" in said
