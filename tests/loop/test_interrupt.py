"""A sweep that is requested to end lets running trials report first, for a limited time; a second Ctrl-C ends it."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from unittest import mock

import pytest

from raysweep.loop import interrupt
from raysweep.loop.executor import Returned
from raysweep.loop.interrupt import AGAIN_S, GRACE_S, Interruption
from raysweep.storage import FolderStorage
from tests.loop.scripted import LAST, Driver, failed

BOTH = pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(interrupt, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def interruption():
    """One that is in force; the handlers before it are there again afterwards."""
    before = [signal.getsignal(sent) for sent in (signal.SIGINT, signal.SIGTERM)]
    with Interruption() as running:
        yield running
    assert [signal.getsignal(sent) for sent in (signal.SIGINT, signal.SIGTERM)] == before


@BOTH
def test_a_signal_is_printed_once_and_no_trial_starts(interruption, sent, capsys):
    assert not interruption.requested
    signal.raise_signal(sent)
    signal.raise_signal(sent)
    assert (interruption.requested, interruption.over) == (True, False)
    assert capsys.readouterr().out == "the sweep is asked to end: running trials may finish their iteration first\n"


def test_it_waits_for_the_grace_time_only_and_a_forwarded_signal_changes_nothing(clock, interruption):
    signal.raise_signal(signal.SIGINT)
    for seconds in (0, GRACE_S - 1):
        clock.seconds += seconds
        signal.raise_signal(signal.SIGTERM)
        assert not interruption.over
    clock.seconds += 1
    assert interruption.over


@BOTH
def test_a_second_ctrl_c_ends_at_once(clock, interruption, sent):
    signal.raise_signal(sent)
    signal.raise_signal(signal.SIGINT)  # the same one, on another way
    assert not interruption.over
    clock.seconds += AGAIN_S + 0.1
    signal.raise_signal(signal.SIGINT)
    assert interruption.over


@pytest.mark.parametrize("error", [RuntimeError("reentrant call inside <_io.BufferedWriter>"), BrokenPipeError()])
def test_a_signal_counts_if_it_cannot_be_printed(interruption, monkeypatch, error):
    monkeypatch.setattr(interrupt.click, "echo", mock.Mock(side_effect=error))
    signal.raise_signal(signal.SIGTERM)
    assert interruption.requested


def test_in_another_thread_signal_handlers_are_unchanged():
    seen = []

    def run():
        with Interruption() as running:
            seen.extend([signal.getsignal(signal.SIGINT), running.requested])

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before, False]


@pytest.fixture
def driver(tmp_path):
    made = Driver(FolderStorage(str(tmp_path)))
    yield made
    made.close()


@BOTH
def test_every_running_trial_reports_first_or_ends_otherwise(driver, sent):
    driver.run(lambda: signal.raise_signal(sent), driver.reported("00000", 1), failed("00001"))
    assert driver.started == ["00000", "00001"]
    assert driver.executor.stopped == ["00000"]
    trials = driver.state.trials.values()
    assert [(trial.status, bool(trial.checkpoint)) for trial in trials] == [("running", True), ("pending", False)]


def test_a_trial_after_its_last_iteration_may_finish(driver):
    driver.run(
        lambda: signal.raise_signal(signal.SIGTERM), failed("00001"), driver.reported("00000", LAST), Returned("00000")
    )
    assert (driver.executor.stopped, driver.status("00000")) == ([], "finished")


def test_waiting_for_a_trial_that_does_not_report_is_limited(driver, clock):
    def time_passes():
        clock.seconds += GRACE_S

    driver.run(lambda: signal.raise_signal(signal.SIGTERM), driver.reported("00000", 1), time_passes)
    assert driver.executor.running == {"00001"}
    assert driver.status("00001") == "pending"
