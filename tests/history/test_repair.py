"""A repaired journal: whole, with all trials, beside the damaged files; and never half there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysweep.errors import StorageError
from raysweep.history import checkpoint, segments
from raysweep.history.journal import Journal
from raysweep.history.repair import LOST, repair
from raysweep.history.segments import Event
from raysweep.history.sweep_state import SweepState
from raysweep.storage import FolderStorage, Storage

FIRST = "journal/000001-000000001.jsonl"


def begun(place: Storage, trials: int = 3) -> list[Event]:
    """Trials that were suggested, in turn, and have each one result."""
    log = Journal(place, 1)
    events = [log.append("start", term=1, resumed=False)]
    events += [log.append("suggest", trial=f"{n:05d}", config={"x": n}) for n in range(trials)]
    for n in range(trials):
        result = {"iteration": 1, "metrics": {"loss": n}, "checkpoint": None, "node": "n"}
        events.append(log.append("result", trial=f"{n:05d}", **result))
    log.close()
    return events


def without(place: Storage, *parts: str) -> None:
    """Deletes the lines that have these parts."""
    lines = place.get(FIRST).decode().splitlines(keepends=True)
    place.put(FIRST, "".join(line for line in lines if not any(part in line for part in parts)).encode())


def note(place: Storage, trial: str, config: Any, iteration: int = 1) -> None:
    checkpoint.save(
        place, trial, iteration, iteration, {"config": config, "after": None, "reports": [], "hostname": ""}
    )


@pytest.fixture
def folder(tmp_path: Path) -> FolderStorage:
    return FolderStorage(str(tmp_path))


def repaired(place: Storage, term: int = 2, total: int = 9) -> SweepState:
    repair(place, term, total)
    found = segments.read(place)
    assert found.damage == ()
    assert [event["seq"] for event in found.events] == list(range(1, len(found.events) + 1))
    assert found.events[0]["type"] == "repaired"
    return SweepState(found.events)


def test_what_can_be_read_is_kept_and_the_damaged_files_too(either_storage: Storage) -> None:
    events = begun(either_storage)
    without(either_storage, '"seq":5,')
    evidence = either_storage.get(FIRST)
    [said] = repair(either_storage, 2, 9)
    assert said == f"{either_storage.url}/{FIRST}: event 5 is missing before line 5"
    found = segments.read(either_storage)
    kept = [event for event in events if event["seq"] != 5]
    assert found.damage == ()
    assert [event | {"seq": 0} for event in found.events[1:]] == [event | {"seq": 0} for event in kept]
    assert found.events[0]["damage"] == [said]
    assert either_storage.get(FIRST) == evidence
    assert either_storage.list("journal") == [FIRST, "journal/000002-000000001.jsonl"]


def test_the_driver_goes_on_in_a_segment_of_its_own(folder: FolderStorage) -> None:
    begun(folder)
    without(folder, '"seq":5,')
    state = repaired(folder)
    log = Journal(folder, 2, state.seq)
    end = log.append("end", status="ended")
    log.close()
    found = segments.read(folder)
    assert (found.damage, found.events[-1]) == ((), end)


@pytest.mark.parametrize("intact", [True, False])
def test_a_journal_that_is_not_damaged_stays_as_it_is(intact: bool, folder: FolderStorage) -> None:
    begun(folder)
    if not intact:  # a driver was killed
        folder.put(FIRST, folder.get(FIRST)[:-9])
    before = segments.read(folder)
    assert repair(folder, 2, 9) == []
    assert (segments.read(folder), folder.list("journal")) == (before, [FIRST])


def test_a_lost_configuration_is_found_in_the_note_of_a_checkpoint(folder: FolderStorage) -> None:
    begun(folder)
    note(folder, "00001", {"x": 7}, iteration=2)
    note(folder, "00001", {"x": 1})
    without(folder, '"config":{"x":1}')
    state = repaired(folder)
    assert {trial.id: (trial.config, trial.status) for trial in state.trials.values()} == {
        "00000": ({"x": 0}, "running"),
        "00001": ({"x": 1}, "running"),
        "00002": ({"x": 2}, "running"),
    }
    assert list(state.trials) == ["00000", "00001", "00002"]


def test_a_trial_without_a_configuration_has_failed(folder: FolderStorage) -> None:
    begun(folder)
    without(folder, '"config":{"x":1}')
    assert [line.partition(":")[0] for line in repair(folder, 2, 9)][1:] == ["trial 00001"]
    state = SweepState(segments.read(folder).events)
    trial = state.trials["00001"]
    assert (trial.config, trial.status, trial.failures, trial.kinds) == ({}, "failed", [LOST], ["exception"])
    assert trial.last is not None
    assert list(state.trials) == ["00000", "00001", "00002"]


def test_a_trial_that_had_ended_has_not_failed(folder: FolderStorage) -> None:
    begun(folder)
    log = Journal(folder, 2, 7)
    log.append("complete", trial="00001", status="finished")
    log.close()
    without(folder, '"config":{"x":1}')
    assert repaired(folder, term=3).trials["00001"].status == "finished"


def test_a_trial_of_which_nothing_is_left_has_its_number(folder: FolderStorage) -> None:
    begun(folder)
    without(folder, '"trial":"00001"')
    state = repaired(folder)
    assert list(state.trials) == ["00000", "00001", "00002"]
    assert state.trials["00001"].status == "failed"


def test_an_emptied_journal_gets_the_trials_that_have_checkpoints(folder: FolderStorage) -> None:
    begun(folder)
    for n in (0, 2):
        note(folder, f"{n:05d}", {"x": n})
    folder.put(FIRST, b"")
    state = repaired(folder)
    assert [(trial.id, trial.config, trial.status) for trial in state.trials.values()] == [
        ("00000", {"x": 0}, "pending"),
        ("00001", {}, "failed"),
        ("00002", {"x": 2}, "pending"),
    ]


def test_a_folder_of_checkpoints_with_an_odd_name_is_no_trial(folder: FolderStorage) -> None:
    begun(folder)
    for name in ("99999", "00000 (copy)", "old", "1", "\u0660\u0660\u0660\u0660\u0661"):
        note(folder, name, {"x": 0})
    folder.put("checkpoints/.DS_Store", b"\0")
    folder.put("checkpoints/00001/Thumbs.db", b"\0")
    folder.put("checkpoints/00001/complete.json", b"\0")
    without(folder, '"seq":5,')
    assert list(repaired(folder).trials) == ["00000", "00001", "00002"]


def test_a_trial_with_a_name_of_its_own_is_kept(folder: FolderStorage) -> None:
    log = Journal(folder, 1)
    log.append("start")
    log.append("suggest", trial="mine", config={"x": 1})
    log.append("complete", trial="mine", status="finished")
    log.close()
    without(folder, '"suggest"')
    assert repaired(folder).trials["mine"].status == "finished"


@pytest.mark.parametrize("when", ["put", "after"])
def test_a_driver_that_dies_while_it_repairs_leaves_the_damage_or_a_whole_journal(
    when: str, folder: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(folder)
    without(folder, '"seq":5,')
    before = segments.read(folder)

    def dies(original: Callable[..., None]) -> Callable[..., None]:
        def put(self: Storage, key: str, data: bytes) -> None:
            if when == "after":
                original(self, key, data)
            raise StorageError("away")

        return put

    with monkeypatch.context() as patched:
        patched.setattr(FolderStorage, "put", dies(FolderStorage.put))
        with pytest.raises(StorageError):
            repair(folder, 2, 9)
    found = segments.read(folder)
    assert found == before if when == "put" else found.damage == ()
    # The next life repairs what is still damaged.
    repair(folder, 3, 9)
    assert segments.read(folder).damage == ()
    assert len(SweepState(segments.read(folder).events).trials) == 3


def test_a_repaired_journal_that_is_damaged_again_is_repaired_again(folder: FolderStorage) -> None:
    begun(folder)
    without(folder, '"seq":5,')
    repaired(folder)
    second = "journal/000002-000000001.jsonl"
    folder.put(second, folder.get(second).replace(b'"loss":2', b'"loss":3'))
    assert segments.read(folder).damage == (f"{folder.url}/{second}: line 7 is not as written",)
    assert len(repaired(folder, term=3).trials) == 3


def test_a_lost_repair_is_damage_again(folder: FolderStorage) -> None:
    begun(folder)
    without(folder, '"seq":5,')
    state = repaired(folder)
    log = Journal(folder, 2, state.seq)
    log.append("end", status="ended")
    log.close()
    folder.delete("journal/000002-000000001.jsonl")
    assert segments.read(folder).damage
