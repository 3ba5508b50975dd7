"""How a sweep that has ended is judged, and what its code is known by."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import ray

from raysweep.driver.runner import Runner, code_hash
from raysweep.errors import SweepFailed
from raysweep.history.cost import Rate
from raysweep.history.sweep_state import SweepState
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.stopping import Spending, SweepLimits
from raysweep.spec.flags import Flags
from raysweep.spec.prices import FILE, Prices
from raysweep.spec.sweep import NoKnobs, strategy
from tests.loop import sweeps

RATE = Rate(Prices("CHF", node_hour=3600.0, cpu_hour=3600.0), nodes=1, places=2, cpus=1.0, gpus=0.0)


def runner(**flags: Any) -> Runner:
    sweep = sweeps.sweep_of("random_search", samples=3)
    return Runner(strategy("random_search"), sweep, Flags(**flags), NoKnobs(), sweeps.config_of(sweep), MemoryStorage())


def limits(budget: float | None, seconds: float) -> SweepLimits:
    """Those of a sweep that has run for so many seconds."""
    times = iter([0.0, seconds])
    found = SweepLimits(budget, 3, lambda: next(times))
    assert found.reached is (budget is not None)
    return found


def state_of(*events: dict[str, Any]) -> SweepState:
    return SweepState([{"seq": n, "time": 0.0, **event} for n, event in enumerate(events)])


STARTED = {"type": "suggest", "trial": "00000", "config": {"x": 0.5, "width": 1}}
REPORTED = {
    "type": "result",
    "trial": "00000",
    "iteration": 1,
    "metrics": {"loss": 1.0},
    "checkpoint": None,
    "node": "n",
}


def test_a_time_budget_used_up_before_the_first_report_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    runner()._raise_if_failed(limits(2.0, 3.0), state_of(STARTED))
    assert capsys.readouterr().out == (
        "the time budget of 2 s is used up before the first report with 3 trials to do:"
        " continue with --name s --resume auto and a longer --time-budget\n"
    )


def test_a_time_budget_used_up_later_is_none_either(capsys: pytest.CaptureFixture[str]) -> None:
    runner()._raise_if_failed(limits(2.0, 3.0), state_of(STARTED, REPORTED))
    told = "the time budget of 2 s is used up with 3 trials to do: continue with --name s --resume auto\n"
    assert capsys.readouterr().out == told


def test_a_used_up_cost_budget_is_none_either(capsys: pytest.CaptureFixture[str]) -> None:
    limits = SweepLimits(None, 3, lambda: 0.0, Spending(RATE, budget=7.5, spent=7.5))
    assert limits.reached
    runner()._raise_if_failed(limits, state_of(STARTED, REPORTED))
    assert capsys.readouterr().out == (
        "the cost budget of 7.5 CHF is used up with 3 trials to do:"
        " continue with --name s --resume auto and a larger --cost-budget\n"
    )


def test_what_earlier_runs_have_cost_counts_for_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    took = {"loss": 1.0, "time_this_iter_s": 3.0}
    earlier = state_of(
        {"type": "start"}, STARTED, REPORTED | {"metrics": took, "time": 4.0}, {"type": "end", "time": 5.0}
    )
    spending = runner(cost_budget=20.0).plan(RATE, earlier).spending
    assert spending is not None
    assert (spending.budget, spending.spent) == (20.0, 5.0 + 3.0)  # the node for 5 s, and a trial for 3
    assert runner().plan(RATE, earlier).spending is None
    assert runner(cost_budget=20.0).plan(None, earlier).spending is None


def test_the_rate_is_that_of_the_projects_prices_and_the_clusters_nodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert runner().rate is None
    (tmp_path / FILE).write_text("node_hour: 2\ncpu_hour: 0.1\n")
    node = {"Alive": True, "Resources": {"CPU": 2.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [node, node, {"Alive": True, "Resources": {"CPU": 0.0}}])
    rate = runner().rate
    assert rate == Rate(Prices(node_hour=2.0, cpu_hour=0.1), nodes=2, places=4, cpus=1.0, gpus=0.0)
    spec = {"code": "abc", "versions": {}, "python": "3"}
    assert runner()._settings(spec, rate)["prices"] == rate.note(), "the page shows what they were"


def test_a_sweep_that_was_stopped_has_failed() -> None:
    with pytest.raises(SweepFailed, match="stopped with 3 trials to do: continue with --name s --resume auto"):
        runner()._raise_if_failed(limits(None, 3.0), state_of(STARTED, REPORTED))


def judged(budget: float | None, seconds: float, *events: dict[str, Any]) -> int:
    """The exit code of the driver."""
    try:
        runner()._raise_if_failed(limits(budget, seconds), state_of(*events))
    except SweepFailed as error:
        return error.exit_code
    return 0


THREE = [{**STARTED, "trial": f"0000{n}"} for n in range(3)]
DONE = [{"type": "complete", "trial": f"0000{n}", "status": "finished"} for n in range(3)]
LOST = [{**DONE[1], "status": "failed"}]
FAILED = [{"type": "failure", "trial": "00001", "error": "ValueError: no", "kind": "exception"}, *LOST]


@pytest.mark.parametrize(
    ("events", "status", "out_of_budget", "code"),
    [
        ([*THREE, REPORTED, *DONE], "ended", False, 0),
        ([*THREE, *DONE], "ended", False, 1),  # nothing was reported
        ([*THREE, REPORTED, DONE[0], *FAILED, DONE[2]], "ended", False, 1),
        ([STARTED, REPORTED], "interrupted", False, 1),
        ([STARTED, REPORTED], "interrupted", True, 0),
        ([STARTED], "interrupted", True, 0),
        ([*THREE, REPORTED, *FAILED], "interrupted", True, 1),
    ],
)
def test_the_journal_tells_the_exit_code_that_the_driver_has(
    events: list[dict[str, Any]], status: str, out_of_budget: bool, code: int
) -> None:
    end = {"type": "end", "status": status, **({"out_of_budget": True} if out_of_budget else {})}
    assert state_of(*events, end).exit_code == code
    assert judged(2.0 if out_of_budget else None, 3.0, *events) == code


def test_a_journal_of_a_driver_that_runs_or_died_tells_no_exit_code() -> None:
    assert state_of(STARTED).exit_code is None
    again = [{"type": "end", "status": "ended"}, {"type": "start"}]
    assert state_of({"type": "start"}, STARTED, *again).exit_code is None


def train(config: dict[str, Any]) -> None: ...


def test_the_code_of_a_partial_is_that_of_its_function() -> None:
    assert code_hash(functools.partial(train)) == code_hash(train) != code_hash(functools.partial)


def test_a_driver_notes_in_the_journal_what_may_differ_from_the_next_one() -> None:
    spec = {"code": "abc", "versions": {"ray": "2"}, "python": "3", "seed": 1}
    noted = runner()._settings(spec)
    share = {"cpus": 1.0, "gpus": 0.0, "workers": 1}
    assert noted == {"share": share, "together": False, "code": "abc", "versions": {"ray": "2"}, "python": "3"}
