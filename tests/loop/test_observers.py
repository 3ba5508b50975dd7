"""Observers that fail do not end a sweep."""

import logging

from raysweep.history.sweep_state import TrialRecord
from raysweep.loop.observers import Observer, Observers
from tests.loop.sweeps import run


class Told(Observer):
    def __init__(self):
        self.calls = []

    def reported(self, trial, result):
        self.calls.append("reported")

    def close(self):
        self.calls.append("close")


class Broken(Told):
    def reported(self, trial, result):
        super().reported(trial, result)
        raise OSError("no space left")


class BrokenTwice(Broken):
    def close(self):
        super().close()
        raise OSError("not even that")


def test_one_that_fails_is_named_once_and_left_out(caplog):
    told, broken, twice = Told(), Broken(), BrokenTwice()
    observers = Observers([broken, twice, told])
    trial = TrialRecord("00000", {})
    for _ in range(2):
        observers.reported(trial, None)
    observers.close()
    assert told.calls == ["reported", "reported", "close"]
    assert broken.calls == twice.calls == ["reported", "close"]
    text = "has failed, and the sweep goes on without it: OSError: no space left"
    assert [record.getMessage() for record in caplog.records] == [f"Broken {text}", f"BrokenTwice {text}"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_sweep_goes_on_without_it():
    state = run("random_search", observer=Observers([Broken()]))
    assert state.count("finished") == 6
