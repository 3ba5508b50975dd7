"""The charts: each is one that plotly takes, and shows values that pandas finds, too."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from ray import tune
from ray.tune.search.sample import Domain

from raysweep.history.optuna_export import axes_of
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import SweepState
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.simulation import Fault
from raysweep.reporting import parameter_charts, progress_charts, run_charts
from raysweep.reporting.chart import Chart, evenly, number, text
from raysweep.reporting.ledger import Ledger, rungs
from raysweep.reporting.page import _View
from raysweep.reporting.scores import scored
from raysweep.spec import described
from raysweep.spec.paths import KeyPath
from tests.reporting.sweeps import SPACE, large, simulated

SHARE = {"cpus": 2.0, "gpus": 0.0, "workers": 3}


def every_chart(results: SweepResults) -> list[Chart]:
    return [chart for section in _View(0, results).content["sections"] for chart in section.charts]


def axes(results: SweepResults) -> list:
    return axes_of(results, described.domains(results.spec["space"]))


@pytest.fixture(scope="module")
def asha() -> SweepResults:
    return simulated("tpe_asha", knobs={"startup_trials": 5})


@pytest.fixture(scope="module")
def pbt() -> SweepResults:
    return simulated("pbt", 8, 12, places=8)


@pytest.fixture(scope="module")
def two() -> SweepResults:
    return simulated("multi_objective", 20, 3, knobs={"second_metric": "size"})


@pytest.mark.parametrize("name", ["asha", "pbt", "two"])
def test_plotly_takes_every_chart(name: str, request: pytest.FixtureRequest) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import plotly.graph_objects as go
    charts = every_chart(request.getfixturevalue(name))
    assert len(charts) == len({chart.id for chart in charts}) > 8
    for chart in charts:
        go.Figure(chart.figure)  # refuses a key that it does not know, and a value that it may not have
        assert chart.caption


def test_best_so_far_by_trials_is_the_cumulative_best(asha: SweepResults) -> None:
    chart = progress_charts.best_so_far(asha, Ledger.of(asha.state.events or []), SHARE, scored(asha))[0]
    best = asha.table["accuracy"].cummax()
    changes = best[best.diff() != 0]
    assert chart.data[1]["x"] == [n + 1 for n in changes.index]
    assert chart.data[1]["y"] == pytest.approx(list(changes), rel=1e-5)


def test_best_so_far_by_time_and_cost_is_that_of_the_events(asha: SweepResults) -> None:
    events = pd.DataFrame([e | e["metrics"] for e in asha.state.events or [] if e["type"] == "result"])
    improved = events[events.accuracy.cummax().diff() != 0]
    _, wall, cost = progress_charts.best_so_far(asha, Ledger.of(asha.state.events or []), SHARE, scored(asha))
    assert wall.data[1]["x"] == pytest.approx(list(improved.time), rel=1e-5)
    spent = events.time_this_iter_s.cumsum().loc[improved.index] * 2 * 3  # CPUs of each of three workers
    assert cost.data[1]["x"] == pytest.approx(list(spent), rel=1e-4)
    assert cost.layout["xaxis"]["title"]["text"] == "CPU-seconds"


def test_gpus_are_counted_where_a_trial_has_some() -> None:
    assert progress_charts.cost_unit({"cpus": 4, "gpus": 0.5, "workers": 2}) == ("GPU-seconds", 1.0)


def test_learning_curves_have_all_points_of_a_small_sweep(asha: SweepResults) -> None:
    chart = progress_charts.learning_curves(asha, scored(asha))
    assert chart is not None
    drawn = [y for trace in chart.data for y in trace["y"] if y is not None]
    reported = [r.metrics["accuracy"] for t in asha.state.trials.values() for r in t.results.values()]
    assert sorted(drawn) == pytest.approx(sorted(reported), rel=1e-5)
    assert chart.data[-1]["text"][0] == asha.best["trial"]


def test_learning_curves_of_a_large_sweep_are_thinned_to_the_best_the_worst_and_some_others() -> None:
    results = large(MemoryStorage(), 120, 300)
    chart = progress_charts.learning_curves(results, scored(results))
    assert chart is not None
    drawn = {each for trace in chart.data for each in trace["text"] if each}
    ranking = list(results.table.sort_values("accuracy", ascending=False).trial)
    assert set(ranking[:10]) | set(ranking[-10:]) <= drawn
    assert len(drawn) == progress_charts.CURVES
    longest = max(sum(x is not None for x in trace["x"]) for trace in chart.data[-1:])
    assert longest == progress_charts.POINTS
    assert chart.data[-1]["x"][:-1][-1] == 300


def test_rungs_show_who_was_stopped(asha: SweepResults) -> None:
    found = rungs(asha.state, 27)
    chart = progress_charts.rungs_chart(asha, found)
    assert chart is not None
    went_on, stopped = chart.data
    assert set(stopped["text"]) == {trial.id for rung in found for trial in rung.stopped}
    assert sorted(went_on["text"] + stopped["text"]) == sorted(
        trial.id for rung in found for trial in asha.state.trials.values() if rung.iteration in trial.results
    )


def test_the_front_is_that_of_best_json(two: SweepResults) -> None:
    [chart] = progress_charts.pareto(two, scored(two))
    assert set(chart.data[1]["text"]) == {each["trial"] for each in two.front}
    assert len(chart.data[0]["text"]) + len(chart.data[1]["text"]) == len(two.table)


@pytest.mark.parametrize("name", ["lr", "momentum", "width", "activation"])
def test_what_was_sampled_is_counted_once_and_the_prior_adds_up_to_all(asha: SweepResults, name: str) -> None:
    chart = next(each for each in parameter_charts.slices(asha, axes(asha), scored(asha)) if each.title == name)
    sampled, prior, dots = chart.data
    steps = slice(None) if name == "activation" else slice(None, -1)  # the last edge of a histogram has no bin
    assert sum(sampled["y"][steps]) == len(asha.state.trials)
    values = asha.table[f"config/{name}"]
    if name == "activation":
        choices = SPACE["activation"].categories
        assert sampled["y"] == [int((values == choice).sum()) for choice in choices]
        assert [choices[n] for n in dots["x"]] == list(values)
    else:
        edges = sampled["x"]
        assert sampled["y"][0] == int(((values >= edges[0] - 1e-9) & (values < edges[1])).sum())
        assert dots["x"] == pytest.approx(list(values), rel=1e-5)
    assert sum(prior["y"][steps]) == pytest.approx(len(asha.state.trials), rel=1e-4)
    assert dots["y"] == pytest.approx(list(asha.table["accuracy"]), rel=1e-5)


def rounded(values: np.ndarray, step: float) -> np.ndarray:
    return np.round(values / step) * step


RNG = np.random.default_rng(1)
MANY = 4000


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (tune.uniform(2, 5), RNG.uniform(2, 5, MANY)),
        (tune.loguniform(1e-3, 10), 10 ** RNG.uniform(-3, 1, MANY)),
        (tune.randn(3, 2), RNG.normal(3, 2, MANY)),
        (tune.randint(1, 7), RNG.integers(1, 7, MANY)),
        (tune.randint(0, 500), RNG.integers(0, 500, MANY)),
        (tune.qrandint(2, 64, 2), 2 * RNG.integers(1, 33, MANY)),
        (tune.quniform(0, 1, 0.25), rounded(RNG.uniform(0, 1, MANY), 0.25)),
        (tune.lograndint(1, 100), np.floor(np.exp(RNG.uniform(0, np.log(100), MANY))).astype(int)),
    ],
    ids=["uniform", "loguniform", "normal", "few integers", "integers", "even", "quarters", "log integers"],
)
def test_the_prior_is_that_of_many_draws(domain: Domain, values: np.ndarray) -> None:
    events = [{"seq": n, "type": "suggest", "trial": f"{n}", "config": {"p": v}} for n, v in enumerate(values.tolist())]
    results = SweepResults("s", {"metrics": ["m"], "modes": ["max"]}, SweepState(events))
    path: KeyPath = ("p",)
    [axis] = axes_of(results, {path: domain})
    edges, expected = parameter_charts.bins(axis, len(values))
    assert expected is not None
    counts, _ = np.histogram(values, edges)
    assert counts.sum() == len(values)
    assert (np.abs(counts - np.array(expected)) < 5 * np.sqrt(np.array(expected) + 1)).all()


def test_parallel_coordinates_go_through_the_values_of_each_trial(asha: SweepResults) -> None:
    chart = parameter_charts.parallel_coordinates(asha, axes(asha), scored(asha))
    assert chart is not None
    by_label = {each["label"]: each["values"] for each in chart.data[0]["dimensions"]}
    assert by_label["accuracy"] == pytest.approx(list(asha.table["accuracy"]), rel=1e-5)
    assert by_label["lr"] == pytest.approx(list(np.log10(asha.table["config/lr"])), rel=1e-5)
    assert by_label["width"] == list(asha.table["config/width"])


def test_the_lineage_has_every_exploit_and_leads_back_from_the_best(pbt: SweepResults) -> None:
    ledger = Ledger.of(pbt.state.events or [])
    lineage, *schedules = run_charts.population(pbt, ledger, axes(pbt))
    exploits = [event for event in pbt.state.events or [] if event["type"] == "exploit"]
    assert len(exploits) > 3
    arrows = lineage.data[-1]
    assert list(zip(arrows["y"][::3], arrows["y"][1::3], arrows["x"][::3], strict=True)) == [
        (event["donor"], event["trial"], event["checkpoint"]["iteration"]) for event in exploits
    ]
    assert run_charts.ancestry(pbt, ledger)[0] == pbt.best["trial"]
    assert {"lr over time", "momentum over time"} <= {chart.title for chart in schedules}


def test_a_schedule_has_the_value_of_each_iteration(pbt: SweepResults) -> None:
    chart = next(
        c for c in run_charts.population(pbt, Ledger.of(pbt.state.events or []), axes(pbt)) if c.title == "lr over time"
    )
    best = pbt.state.trials[pbt.best["trial"]]
    assert chart.data[1]["y"][:-1] == pytest.approx([r.config["lr"] for _, r in sorted(best.results.items())], rel=1e-5)


def test_the_timeline_has_all_work_and_names_idle_time(asha: SweepResults) -> None:
    ledger = Ledger.of(asha.state.events or [])
    chart = run_charts.timeline(asha, ledger)
    assert chart is not None
    assert sum(x for trace in chart.data for x in trace["x"]) == pytest.approx(ledger.work, rel=1e-3)
    [placed] = run_charts.by_node(ledger).values()
    count = len({lane for _, lane in placed})
    assert run_charts.busy_share(placed, ledger.wall) == pytest.approx(ledger.work / count / ledger.wall, rel=1e-3)


def test_a_failure_is_a_bar_of_its_own() -> None:
    broken = simulated("random_search", 4, 3, faults={("00001", 2): Fault(ValueError("no"))}, max_failures=1)
    chart = run_charts.timeline(broken, Ledger.of(broken.state.events or []))
    assert chart is not None
    assert [trace["text"] for trace in chart.data if trace["name"] == "lost in a failure"] == [["00001"]]


def test_evenly_keeps_both_ends() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly([1, 2], 4) == [1, 2]


@pytest.mark.parametrize(("value", "shown"), [(float("nan"), None), (True, 1.0), ("x", None), (1 / 3, 0.333333)])
def test_only_numbers_are_numbers(value: object, shown: float | None) -> None:
    assert number(value) == shown


def test_plotly_is_given_no_tags() -> None:
    assert text("<b>x</b>") == "&lt;b&gt;x&lt;/b&gt;"
    assert len(text("x" * 100)) == 60
