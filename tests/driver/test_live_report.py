"""The page of a running sweep: written now and then, from the journal, and never in the loop's way."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from raysweep.driver import live_report
from raysweep.driver.live_report import MOST_OF_TIME, LiveReport
from raysweep.history import journal
from raysweep.history.sweep_state import SweepState
from raysweep.loop.simulation import Step, simulate
from raysweep.storage import FolderStorage
from tests.loop.sweeps import config_of, sweep_of
from tests.reporting.sweeps import simulated
from tests.waiting import until


@pytest.fixture
def place(tmp_path: Path) -> FolderStorage:
    storage = FolderStorage(str(tmp_path / "s"))
    simulated("random_search", 3, 2, storage=storage, sweep_name="s")
    return storage


def reported(live: LiveReport, place: FolderStorage) -> None:
    trial = next(iter(SweepState(journal.read(place)).trials.values()))
    assert trial.last is not None
    live.reported(trial, trial.last)


def test_it_is_written_when_there_is_news_and_it_is_due(place: FolderStorage) -> None:
    live = LiveReport(place, first=0.0, often=3600.0)
    live.turn()
    assert not place.exists("report.html")  # nothing is new
    reported(live, place)
    live.turn()
    live.close()
    assert place.get("report.html").startswith(b"<!doctype html>")
    place.delete("report.html")
    reported(live, place)
    live.turn()  # an hour too early
    live.close()
    assert not place.exists("report.html")


def test_it_is_not_due_in_the_first_seconds(place: FolderStorage) -> None:
    live = LiveReport(place)
    reported(live, place)
    live.turn()
    live.close()
    assert not place.exists("report.html")


def test_the_next_page_waits_a_hundred_times_as_long_as_one_took(
    place: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_report, "write_if_possible", lambda _: 40.0)
    now = [0.0]
    monkeypatch.setattr(live_report.time, "monotonic", lambda: now[0])
    live = LiveReport(place, first=0.0)
    live._write()
    assert live._due == 40.0 / MOST_OF_TIME
    monkeypatch.setattr(live_report, "write_if_possible", lambda _: 0.01)
    live._write()
    assert live._due == live_report.OFTEN_S


def test_the_loop_does_not_wait_for_a_page(place: FolderStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, begun = threading.Event(), []
    monkeypatch.setattr(live_report, "write_if_possible", lambda _: begun.append(1) or may_end.wait(60) or 0.0)
    live = LiveReport(place, first=0.0, often=0.0)
    for _ in range(3):
        reported(live, place)
        live.turn()
    until(lambda: begun, "a page")
    assert begun == [1]  # one at a time
    may_end.set()
    live.close()


def test_a_page_is_made_while_the_sweep_runs(tmp_path: Path) -> None:
    place = FolderStorage(str(tmp_path / "s"))
    pages: list[bool] = []

    class Watching(LiveReport):
        def turn(self) -> None:
            super().turn()
            if self._thread:
                self._thread.join()
                pages.append(b'http-equiv="refresh"' in place.get("report.html"))

    simulated("random_search", 3, 2, storage=place, sweep_name="s")  # for its sweep.json
    spec = place.get("sweep.json")
    place.delete_tree("journal")
    place.put("sweep.json", spec)
    sweep = sweep_of("random_search", samples=4, max_iterations=3)
    simulate(config_of(sweep), sweep, lambda *_: Step({"loss": 1.0, "accuracy": 1.0}), storage=place,
             observer=Watching(place, first=0.0, often=0.0))  # fmt: skip
    assert pages
    assert all(pages)
