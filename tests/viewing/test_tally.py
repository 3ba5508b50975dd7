"""What one look at a sweep shows, against what its whole journal says."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from raysweep.history import lease
from raysweep.history.lease import claim
from raysweep.history.live import Live
from raysweep.history.results import SweepResults, best_trial
from raysweep.history.sweep_state import SweepState
from raysweep.loop.simulation import Fault
from raysweep.reporting.ledger import Ledger
from raysweep.storage import FolderStorage
from raysweep.viewing import tally as tally_module
from raysweep.viewing.tally import Driver, Failure, Pulse, Tally
from tests.reporting.sweeps import simulated
from tests.viewing.growing import complete, failure, numbered, result, start, suggest, tell, told


def fed(found: SweepResults) -> tuple[Tally, list]:
    tally = Tally()
    tally.anew(SweepResults(found.url, found.spec, SweepState()))
    return tally, found.state.events or []


@pytest.mark.parametrize("strategy", ["asha", "pbt"])
def test_the_best_and_the_sums_are_those_of_the_whole_journal_at_any_moment(strategy: str) -> None:
    faults = {("00001", 5): Fault(ValueError("no"))}
    tally, events = fed(simulated(strategy, 6, 8, places=6, faults=faults, max_failures=1))
    for n, event in enumerate(events, start=1):
        tell(tally, event)
        if n % 7 == 0 or n == len(events):
            state, ledger = SweepState(events[:n]), Ledger.of(events[:n])
            best = best_trial(state, tally.sweep.objective)
            mine = tally.best
            assert (mine and (mine[0].id, mine[1].seq)) == (best and (best[0].id, best[1].seq))
            assert tally.results == len(ledger.reports)
            assert tally.wall == pytest.approx(ledger.wall)
            assert tally.failed == sum(len(trial.failures) for trial in state.trials.values())


def test_a_best_result_that_was_repeated_and_was_worse_counts_no_more() -> None:
    tally = told(start(), suggest(0), suggest(1), result(0, 1, 0.5), result(1, 1, 0.6), result(0, 2, 0.9))
    assert tally.best is not None
    assert tally.best[1].metrics == {"accuracy": 0.9}
    tell(tally, numbered(*[{}] * 6, result(0, 2, 0.4))[-1])
    assert (tally.best[0].id, tally.best[1].metrics) == ("00001", {"accuracy": 0.6})


def test_of_equal_values_the_earlier_trial_is_the_best_and_of_a_trial_the_earlier_iteration() -> None:
    tally = told(suggest(0), suggest(1), result(1, 1, 0.5), result(0, 1, 0.5), result(0, 2, 0.5), result(1, 2, 0.5))
    assert tally.best is not None
    assert (tally.best[0].id, tally.best[1].iteration) == ("00000", 1)
    best = best_trial(tally.sweep.state, tally.sweep.objective)
    assert best is not None
    assert best[1] is tally.best[1]


def test_less_is_better_where_it_is_and_nan_never_is() -> None:
    events = [suggest(0), suggest(1), result(0, 1, 0.5), result(1, 1, 0.4), result(0, 2, float("nan"))]
    tally = told(*events, modes=["min"])
    assert tally.best is not None
    assert tally.best[1].metrics == {"accuracy": 0.4}


def test_the_rate_is_that_of_the_last_minute_of_this_driver() -> None:
    events = [start(time=1000.0), {**suggest(0), "time": 1000.0}]
    events += [result(0, n, 0.5, time=1000.0 + n / 2) for n in range(1, 21)]  # two a second
    tally = told(*events)
    assert tally.rate(1010.0) == pytest.approx(2.0)
    assert tally.rate(1040.0) == pytest.approx(20 / 40)
    assert tally.rate(1065.0) == pytest.approx(10 / 60)  # those after second 1005
    assert tally.rate(1100.0) == 0
    again = told(*events, start(time=2000.0, term=2))
    assert again.rate(2000.0) is None
    assert again.rate(2010.0) == 0


def test_the_time_between_two_drivers_is_left_out() -> None:
    events = [start(time=10.0), {**suggest(0), "time": 12.0}, start(time=500.0, term=2), result(0, 1, 0.5, time=503.0)]
    assert told(*events).wall == 5
    assert Ledger.of(numbered(*events)).wall == 5


def test_the_last_failures_stand_with_the_line_that_says_what_happened() -> None:
    trace = 'ray::run()\n  File "train.py", line 3\n    fit()\nValueError: bad {}\nmore'
    tally = told(
        *(suggest(n) for n in range(7)), *(failure(n, trace.format(n)) for n in range(7)), complete(0, "failed")
    )
    assert tally.failed == 7
    assert list(tally.failures) == [Failure(f"{n:05d}", "exception", f"ValueError: bad {n}") for n in range(2, 7)]


@pytest.fixture
def place(tmp_path: Path) -> FolderStorage:
    return FolderStorage(str(tmp_path / "mine"))


END = {"type": "end", "status": "ended"}


def test_a_driver_runs_leaves_and_is_gone(place: FolderStorage) -> None:
    running, ended = told(start(), suggest(0)), told(start(), suggest(0), result(0, 1, 0.5), complete(0), END)
    pulse = Pulse(place)
    with claim(place):
        assert pulse.driver(running) is Driver.RUNS
        assert pulse.driver(ended) is Driver.LEAVES  # it still writes trials.csv and the like
    assert pulse.driver(ended) is Driver.GONE
    assert pulse.driver(running) is Driver.SILENT  # it left without a word
    assert Pulse(FolderStorage(place.url + "-without")).driver(running) is Driver.RUNS  # there is nothing to judge by


def test_a_driver_of_another_machine_is_silent_when_its_lease_stands_still(
    place: FolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, running = [100.0], told(start())
    monkeypatch.setattr(tally_module.time, "monotonic", lambda: now[0])
    term = lease.Term(1, "a", "elsewhere", "host", os.getpid(), 0.0)
    place.put(term.key, term.to_json())
    pulse = Pulse(place)
    assert pulse.driver(running) is Driver.RUNS
    now[0] += lease.LAPSE_SECONDS + 1
    assert pulse.driver(running) is Driver.SILENT
    place.put(term.key, replace(term, beat=1).to_json())
    assert pulse.driver(running) is Driver.RUNS
    assert pulse.silence == 0


def test_what_an_earlier_driver_said_of_its_places_is_not_shown(place: FolderStorage) -> None:
    live = Live(1, time.time(), 9, 4, 3, 0, 2, 12.5)
    live.write(place)
    assert Pulse(place).live(told(start())) == live
    assert Pulse(place).live(told(start(), start(term=2))) is None


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    events = [start(time=0.0), {**suggest(0), "time": 4.0}, result(0, 1, 0.5, time=2.0), result(0, 2, 0.5, time=5.0)]
    assert told(*events).wall == Ledger.of(numbered(*events)).wall == 5
