"""What the driver says of its places while a sweep runs: now and then, never in the loop's way, and not afterwards."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from raysweep.driver.live_status import LiveStatus
from raysweep.errors import StorageError
from raysweep.history import live
from raysweep.history.sweep_state import SweepState
from raysweep.loop.places import Usage
from raysweep.loop.progress import Progress
from raysweep.storage import FolderStorage
from tests.waiting import until


@pytest.fixture
def place(tmp_path: Path) -> FolderStorage:
    return FolderStorage(str(tmp_path))


def status(place: FolderStorage, **times: float) -> LiveStatus:
    progress = Progress(SweepState(), "loss", "min", total=40, max_iterations=9)
    return LiveStatus(place, 7, progress, lambda: Usage(places=4, busy=3, starting=1, nodes=2), **times)


def test_it_says_what_the_driver_knows_and_is_gone_at_the_end(place: FolderStorage) -> None:
    writes = status(place, first=0.0)
    writes.turn()
    told = until(lambda: live.read(place))
    assert told == live.Live(7, told.time, 40, 4, 3, 1, 2, None)
    writes.close()
    assert not place.exists(live.NAME)


def test_what_a_killed_driver_left_is_gone_at_the_end_too(place: FolderStorage) -> None:
    place.put(live.NAME, b"{}")
    writes = status(place)
    writes.turn()  # in the first second
    writes.close()
    assert not place.exists(live.NAME)


def test_it_waits_between_two_times_and_the_loop_for_none(
    place: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, may_end = [], threading.Event()
    monkeypatch.setattr(FolderStorage, "put", lambda *given: written.append(given[1]) or may_end.wait(60))
    writes = status(place, first=0.0, often=0.0)
    for _ in range(3):
        writes.turn()
    until(lambda: written, "the first")
    assert written == [live.NAME]
    may_end.set()
    writes.close()
    patient = status(place, first=0.0, often=3600.0)
    for _ in range(3):
        patient.turn()
        patient._thread.join()
    assert len(written) == 2


def test_a_refusing_store_is_said_and_stops_nothing(
    place: FolderStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise StorageError("no room")

    for verb in ("put", "delete"):
        monkeypatch.setattr(FolderStorage, verb, refuse)
    writes = status(place, first=0.0)
    writes.turn()
    writes.close()
    assert "`raysweep watch` does not see the places for now: no room" in caplog.text
