"""The figures of a sweep are what its journal adds up to, counted here from its events."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.util import metrics

from raysweep.history.results import Objective
from raysweep.history.sweep_state import SweepState
from raysweep.loop import ray_metrics
from raysweep.loop.failures import Kind
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.places import Stage
from raysweep.loop.ray_metrics import Figure, RayMetrics
from raysweep.loop.simulation import Fault
from tests import prometheus
from tests.loop.sweeps import bowl, draw, events_of, killed_after, run

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
FAULTS = {("00001", 1): Fault(RuntimeError("no such layer"), times=99), ("00002", 2): Fault(MemoryError())}
TAGS = {"sweep": "s", "strategy": "pbt", "task": "bowl"}


def metrics_of(state: SweepState, *modes: str) -> RayMetrics:
    objective = Objective(("loss",) * len(modes), modes)
    return RayMetrics(state, objective, 6, TAGS, lambda: {Stage.BUSY: 2, Stage.STARTING: 1})


def named(figures: RayMetrics) -> dict[tuple[str, ...], float]:
    return {(name, *tags.values()): value for name, tags, value in figures.figures()}


def counted(events: list[dict[str, Any]]) -> dict[tuple[str, ...], float]:
    """By the way of the tests with a real Prometheus, which knows nothing of SweepState."""
    known = prometheus.of_the_journal(events, "loss")
    return {(f"raysweep_{name}", *([tag] if tag else [])): value for (name, tag), value in known.items()}


def with_stalls(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As if each checkpoint had taken its time, which simulated ones do not."""
    for event in events:
        if event["type"] == "result" and event["checkpoint"]:
            event["stalled"] = round(draw(event["seq"]), 6)
    return events


@pytest.mark.parametrize("strategy", ["random_search", "pbt", "asha"])
def test_after_each_event(strategy: str) -> None:
    storage = MemoryStorage()
    run(strategy, bowl, faults=FAULTS, storage=storage, max_failures=0)
    events, state = with_stalls(events_of(storage)), SweepState()
    figures = metrics_of(state, "max")
    for n, event in enumerate(events, start=1):
        state.apply(event)
        if event["type"] == "result":
            trial = state.trials[event["trial"]]
            figures.reported(trial, trial.last)  # type: ignore[arg-type]
        found = {key[:2]: value for key, value in named(figures).items() if key[0] != "raysweep_places"}
        assert found.pop(("raysweep_planned_trials",)) == 6
        assert found == pytest.approx(counted(events[:n])), n
    assert {event["type"] for event in events} >= {"result", "failure", "complete"}


def test_an_earlier_drivers_figures_are_there_from_the_start() -> None:
    events = with_stalls(events_of(killed_after(40, "random_search", bowl, faults=FAULTS, max_failures=1)))
    found = named(metrics_of(SweepState(events), "min"))
    assert found["raysweep_best", "loss", "min"] == min(e["metrics"]["loss"] for e in events if e["type"] == "result")
    assert found["raysweep_results",] == sum(event["type"] == "result" for event in events) > 20
    kinds = [event["kind"] for event in events if event["type"] == "failure"]
    assert found["raysweep_failures", "exception"] == kinds.count("exception") > 0
    assert found["raysweep_failures", "hang"] == 0


def test_a_result_that_is_repeated_and_worse_is_no_longer_the_best() -> None:
    state = SweepState()
    figures, events = metrics_of(state, "max", "min"), iter(range(1, 9))

    def tell(kind: str, **more: Any) -> None:
        state.apply({"seq": next(events), "time": 1.0, "type": kind, "trial": "00000", **more})
        if kind == "result":
            figures.reported(state.trials["00000"], state.trials["00000"].last)  # type: ignore[arg-type]

    def best() -> list[float]:
        return [figure.value for figure in figures.figures() if figure.name == "raysweep_best"]

    tell("suggest", config={})
    assert best() == []
    for loss, iteration in [(0.5, 1), (0.25, 2), (float("nan"), 3), (10**400, 4)]:
        tell("result", iteration=iteration, metrics={"loss": loss}, checkpoint=None, node="here")
    assert best() == [0.5, 0.25]
    tell("result", iteration=1, metrics={"loss": 0.125}, checkpoint=None, node="here")
    assert best() == [0.25, 0.125]


def test_places_are_shown_by_what_goes_on_there() -> None:
    figures = metrics_of(SweepState(), "min").figures()
    places = {tags["stage"]: value for name, tags, value in figures if name == "raysweep_places"}
    assert places == {"busy": 2, "starting": 1, "idle": 0, "ending": 0, "leaving": 0}


def test_every_figure_is_one_that_ray_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own gauges check names and tags; without a cluster they keep what they are given."""
    given: list[tuple[str, dict[str, str], float]] = []
    record: Callable[..., None] = metrics.Gauge._record

    def recorded(self: metrics.Gauge, value: float, tags: dict[str, str]) -> None:
        record(self, value, tags)
        given.append((self.info["name"], tags, value))

    monkeypatch.setattr(metrics.Gauge, "_record", recorded)
    figures = metrics_of(SweepState(), "min")
    figures.begin()
    figures.close()
    expected = [Figure(name, TAGS | tags, value) for name, tags, value in figures.figures()]
    assert given == expected * 2
    assert {name for name, _, _ in given} | {"raysweep_best"} == ray_metrics.FIGURES.keys()
    assert {tags["kind"] for _, tags, _ in given if "kind" in tags} == {*Kind}


@pytest.mark.parametrize(("value", "on"), [(None, True), ("1", True), ("true", True), ("0", False), ("False", False)])
def test_ray_may_be_told_to_have_no_metrics(value: str | None, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_enable_metrics_collection", raising=False)
    if value is not None:
        monkeypatch.setenv("RAY_enable_metrics_collection", value)
    assert ray_metrics.is_on() is on


@pytest.mark.parametrize("page", [prometheus.BOARD, prometheus.ROOT / "docs" / "monitoring.md"], ids=["board", "docs"])
def test_the_board_and_the_page_have_every_figure_and_no_other(page: Path) -> None:
    assert set(re.findall(r"ray_(raysweep_[a-z_]*[a-z])", page.read_text())) == ray_metrics.FIGURES.keys()
