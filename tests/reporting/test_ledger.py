"""What a sweep's time went into, held against sums by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from raysweep.history.cost import Rate
from raysweep.history.sweep_state import SweepState
from raysweep.reporting.ledger import Ledger, Rung, Spell, lanes, rungs
from raysweep.spec.prices import Prices
from tests.reporting.sweeps import simulated

Events = list[dict[str, Any]]


def events(*told: tuple[float, str, dict[str, Any]]) -> Events:
    return [{"seq": n, "time": 1000.0 + t, "type": kind, **more} for n, (t, kind, more) in enumerate(told, start=1)]


def result(t: float, trial: str, iteration: int, took: float, node: str = "a", **more: Any) -> tuple[float, str, dict]:
    metrics = {"loss": 1.0, "time_this_iter_s": took}
    told = {"trial": trial, "iteration": iteration, "metrics": metrics, "checkpoint": None, "node": node, **more}
    return t, "result", told


def suggest(t: float, trial: str) -> tuple[float, str, dict]:
    return t, "suggest", {"trial": trial, "config": {}}


def failure(t: float, trial: str) -> tuple[float, str, dict]:
    return t, "failure", {"trial": trial, "error": "E", "kind": "lost"}


START = (0, "start", {"term": 1})


def test_work_is_the_time_of_all_iterations_and_of_what_failed() -> None:
    told = events(
        START, suggest(0, "0"), result(3, "0", 1, 3), result(5, "0", 2, 2), failure(9, "0"),
        result(12, "0", 2, 2.5), (12, "complete", {"trial": "0", "status": "finished"}),
    )  # fmt: skip
    ledger = Ledger.of(told)
    assert ledger.work == pytest.approx(3 + 2 + 4 + 2.5)
    assert ledger.broken == pytest.approx(4)  # from its last report at 5 to 9
    assert ledger.repeated == pytest.approx(2)  # iteration 2 was done before
    assert ledger.wall == 12
    assert [each.work for each in ledger.reports] == [3, 5, 11.5]


def test_a_trial_that_fails_before_its_first_report_has_lost_the_time_since_its_start() -> None:
    ledger = Ledger.of(events(START, suggest(2, "0"), failure(7, "0")))
    assert (ledger.broken, ledger.work, ledger.repeated) == (5, 5, 0)
    assert ledger.spells == [Spell("0", "", 2, 7, lost=True)]


def test_the_clock_stands_still_between_two_drivers() -> None:
    told = events(START, suggest(0, "0"), result(4, "0", 1, 4), (1000, "start", {"term": 2}), result(1003, "0", 2, 3))
    ledger = Ledger.of(told)
    assert ledger.wall == 7
    assert [each.wall for each in ledger.reports] == [4, 7]
    assert [(spell.began, spell.ended) for spell in ledger.spells] == [(0, 7)]


def test_what_an_exploit_does_again_is_not_repeated() -> None:
    taken = {"trial": "0", "donor": "1", "checkpoint": {"iteration": 1}, "before": {}, "after": {}}
    told = events(START, suggest(0, "0"), result(1, "0", 1, 1), result(2, "0", 2, 1), (2, "exploit", taken),
                  result(3, "0", 2, 1))  # fmt: skip
    assert Ledger.of(told).repeated == 0


def test_an_adopted_result_is_work_but_nobody_knows_when() -> None:
    told = events(START, suggest(0, "0"), (100, "start", {"term": 2}), result(100, "0", 1, 5, adopted=True))
    ledger = Ledger.of(told)
    assert ledger.work == 5
    assert ledger.spells == []


def test_a_pause_or_another_node_begins_a_new_spell() -> None:
    told = events(START, suggest(0, "0"), result(2, "0", 1, 2), result(4, "0", 2, 2), result(9, "0", 3, 2),
                  result(11, "0", 4, 2, node="b"))  # fmt: skip
    spells = [(spell.began, spell.ended, spell.node) for spell in Ledger.of(told).spells]
    assert spells == [(0, 4, "a"), (7, 9, "a"), (9, 11, "b")]


def test_lanes_are_as_few_as_were_busy_at_once() -> None:
    spells = [Spell("0", "a", 0, 4), Spell("1", "a", 1, 2), Spell("2", "a", 2, 5), Spell("3", "a", 4, 6)]
    assert [(spell.trial, lane) for spell, lane in lanes(spells)] == [("0", 0), ("1", 1), ("2", 1), ("3", 0)]


def test_the_work_of_a_simulated_sweep_is_that_of_its_table() -> None:
    found = simulated("random_search", samples=6, max_iterations=5)
    ledger = Ledger.of(found.state.events or [])
    assert ledger.work == pytest.approx(found.table["time_total_s"].sum())
    assert ledger.repeated == ledger.broken == 0
    assert sum(spell.ended - spell.began for spell in ledger.spells) == pytest.approx(ledger.work, rel=1e-3)


def test_rungs_are_where_the_scheduler_stopped_trials() -> None:
    found = simulated("asha", samples=20, max_iterations=9)
    table = found.table
    stopped = table[(table.status == "stopped") & (table.iterations < 9)]
    by_rung = stopped.groupby("iterations").size().to_dict()
    assert {rung.iteration: len(rung.stopped) for rung in rungs(found.state, 9)} == by_rung
    assert {rung.iteration: rung.reached for rung in rungs(found.state, 9)} == {
        iteration: int((table.iterations >= iteration).sum()) for iteration in by_rung
    }
    events = pd.DataFrame([e | e["metrics"] for e in found.state.events or [] if e["type"] == "result"])
    later = events[events.iteration > 1]
    own = later.groupby("trial").time_this_iter_s.median()
    pace = [own.get(row.trial, later.time_this_iter_s.median()) for row in stopped.itertuples()]
    spared = sum(each * (9 - row.iterations) for each, row in zip(pace, stopped.itertuples(), strict=True))
    assert sum(rung.spared for rung in rungs(found.state, 9)) == pytest.approx(spared)


def test_the_start_of_a_process_is_no_pace() -> None:
    ends = [(9, "complete", {"trial": trial, "status": "stopped"}) for trial in "01"]
    told = events(START, suggest(0, "0"), suggest(0, "1"), result(8, "0", 1, 8), result(8, "1", 1, 8),
                  result(9, "1", 2, 1), *ends)  # fmt: skip
    assert [(rung.iteration, rung.spared) for rung in rungs(SweepState(told), 10)] == [(1, 9.0), (2, 8.0)]


def test_what_a_limit_ended_is_no_rung() -> None:
    told = events(START, suggest(0, "0"), result(1, "0", 1, 1, stop="limit"), suggest(0, "1"),
                  result(1, "1", 1, 1, stop="scheduler"), (2, "complete", {"trial": "0", "status": "stopped"}),
                  (2, "complete", {"trial": "1", "status": "stopped"}))  # fmt: skip
    [rung] = rungs(SweepState(told), 10)
    assert ([trial.id for trial in rung.stopped], rung.reached, rung.spared) == (["1"], 2, 9)


def test_each_trial_has_its_part_of_the_work_with_what_it_lost() -> None:
    told = events(
        START, suggest(0, "0"), suggest(0, "1"), result(3, "0", 1, 3), result(4, "1", 1, 4), failure(5, "0"),
        result(8, "0", 1, 3),
    )  # fmt: skip
    ledger = Ledger.of(told)
    assert ledger.worked == {"0": 3 + 2 + 3, "1": 4}
    assert sum(ledger.worked.values()) == ledger.work


def test_failures_and_stopped_trials_have_their_price() -> None:
    """An hour of a place costs 3600: a second costs one."""
    rate = Rate(Prices("EUR", cpu_hour=1800.0), nodes=1, places=1, cpus=2.0, gpus=0.0)
    told = events(START, suggest(0, "0"), result(3, "0", 1, 3), failure(5, "0"), result(8, "0", 1, 3))
    spared = [Rung(1, 2, [], 7.0), Rung(3, 1, [], 4.0)]
    found = Ledger.of(told).costs(rate, spared)
    assert (found.total, found.failures, found.saved) == pytest.approx((8.0, 2 + 3, 11.0))
