"""A metric of any name is reported and optimised like any other, or refused by its name: never another number."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from raysweep.history.export import export
from raysweep.history.results import SweepResults, ranked, summary
from raysweep.history.sweep_state import SweepState
from raysweep.loop.simulation import Step, simulate
from raysweep.spec.sweep import Sweep
from raysweep.storage import FolderStorage
from raysweep.values import AUTOMATIC_METRICS
from tests.loop.sweeps import SPACE, bowl, config_of, sweep_of

SAMPLES, ITERATIONS = 4, 5
KINDS = ("random_search", "asha", "hyperband", "pbt", "pb2", "median_stopping", "tpe")
# Columns and fields of the kit's own, what Ray Tune fills in by itself, and odd ones.
NAMES = (
    *("iterations", "failures", "node", "status", "trial", "best_iteration", "donors", "failed_by", "checkpoint"),
    *("iteration", "config", "metrics", "sha256", "checkpoint_iteration", "stopped_early", "done", "date", "pid"),
    *("hostname", "node_ip", "trial_id", "experiment_id", "experiment_tag", "trainable_name", "timestamp"),
    *("should_checkpoint", "checkpoint_dir_name", "episodes_total", "episodes_this_iter", "timesteps_total"),
    *("timesteps_this_iter", "timesteps_since_restore", "iterations_since_restore", "time_since_restore"),
    *("episode_reward_mean", "mean_loss", "mean_accuracy", "_metric", "__duplicate__", "__trial_info__"),
    *("config/x", "metrics/status", "metrics/loss", "val/loss", "/loss", "two words", "two\nlines", "x" * 10_000),
)
pytestmark = pytest.mark.filterwarnings("ignore")  # of the models of Optuna and PB2
REFUSED = (*AUTOMATIC_METRICS, "", "raysweep:stopped")


def planned(kind: str, metric: str) -> tuple[tune.TuneConfig, Sweep]:
    """A small sweep that optimises this."""
    sweep = dataclasses.replace(sweep_of(kind, SAMPLES, ITERATIONS), metric=metric)
    return config_of(sweep), sweep


def run(kind: str, metric: str = "loss", place: FolderStorage | None = None, **more: Any) -> SweepState:
    """A small sweep whose metric has this name, and whose trials report more."""

    def outcome(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
        step = bowl(trial, config, iteration, state)
        return dataclasses.replace(step, metrics={metric: step.metrics["loss"], **more})

    return simulate(*planned(kind, metric), outcome, places=2, storage=place)


def decisions(state: SweepState, metric: str = "loss") -> dict[str, Any]:
    return {
        trial.id: (trial.status, trial.config, {n: each.metrics[metric] for n, each in sorted(trial.results.items())})
        for trial in state.trials.values()
    }


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[str, SweepState]:
    """A kind of scheduler, and what it does with a metric of a plain name."""
    return request.param, run(request.param)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:30]))
def test_what_is_optimised_may_have_any_name(kind: tuple[str, SweepState], name: str) -> None:
    assert decisions(run(kind[0], name), name) == decisions(kind[1])


@pytest.mark.parametrize("value", [True, "x", 0], ids=repr)
def test_what_else_is_reported_may_have_any_name(kind: tuple[str, SweepState], value: Any) -> None:
    state = run(kind[0], **dict.fromkeys(NAMES, value))
    assert decisions(state) == decisions(kind[1])
    for result in (result for trial in state.trials.values() for result in trial.results.values()):
        assert {name: result.metrics[name] for name in NAMES} == dict.fromkeys(NAMES, value)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_fails_the_trial_by_name(kind: tuple[str, SweepState], name: str) -> None:
    state = run(kind[0], **{name: 1})
    failed = [trial for trial in state.trials.values() if trial.status == "failed"]
    assert len(failed) >= 3  # the others are not even begun
    assert all(f"`{name}`" in trial.failures[0] or "is empty" in trial.failures[0] for trial in failed)
    assert not any(trial.results for trial in state.trials.values())


@pytest.mark.parametrize("name", AUTOMATIC_METRICS)
def test_what_is_filled_in_can_be_optimised(kind: tuple[str, SweepState], name: str) -> None:
    def outcome(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
        step = bowl(trial, config, iteration, state)
        return dataclasses.replace(step, metrics={}, seconds=step.metrics["loss"])

    config, sweep = planned(kind[0], name)
    mode = "max" if name == "training_iteration" else "min"  # a population led by those that are behind never ends
    state = simulate(config, dataclasses.replace(sweep, mode=mode), outcome, places=2)
    assert {trial.status for trial in state.trials.values()} <= {"finished", "stopped"}
    for trial in state.trials.values():
        assert all(result.metrics["time_total_s"] > 0 for result in trial.results.values())
        assert all(
            (result.metrics.get(name) == n) is (name == "training_iteration") for n, result in trial.results.items()
        )


def written(place: FolderStorage, state: SweepState, metric: str) -> SweepResults:
    results = SweepResults(place.url, {"name": "s", "metrics": [metric], "modes": ["min"]}, state)
    export(place, results, SPACE)
    return results


@pytest.mark.parametrize("name", [*NAMES, "loss"], ids=lambda name: repr(name[:30]))
def test_all_results_have_the_same_number(tmp_path: Any, name: str) -> None:
    place = FolderStorage(str(tmp_path))
    state = run("random_search", name, place, other=True)
    best = min((min(r.metrics[name] for r in trial.results.values()), trial.id) for trial in state.trials.values())
    results = written(place, state, name)
    rows = ranked(results)
    column = next(each for each in (f"metrics/{name}", name) if each in rows)
    assert (rows[column].iloc[0], rows["trial"].iloc[0]) == best
    table = pd.read_csv(io.BytesIO(place.get("trials.csv")), dtype={"trial": str})
    assert list(table[column]) == list(results.table[column])
    assert list(table["status"]) == ["finished"] * SAMPLES
    found = json.loads(place.get("best.json"))
    assert (found["metrics"][name], found["trial"]) == best
    assert (found["config"], found["iteration"]) == (results.state.trials[best[1]].config, ITERATIONS)
    assert f"{best[0]:.6g}: trial {best[1]}" in summary(results)
    study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log"))))
    assert (study.best_value, study.best_trial.user_attrs["trial"], study.metric_names) == (*best, [name])


@pytest.mark.parametrize("name", AUTOMATIC_METRICS)
def test_the_table_ranks_by_what_is_filled_in_if_that_is_optimised(tmp_path: Any, name: str) -> None:
    def outcome(trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
        return Step({"loss": 1.0}, 10.0 - int(trial))

    place = FolderStorage(str(tmp_path))
    results = written(place, simulate(*planned("random_search", name), outcome, storage=place), name)
    first = ranked(results).iloc[0]
    assert results.best is not None
    assert (first["trial"], first[name]) == (results.best["trial"], results.best["metrics"][name])
    assert first[name] == (1 if name == "training_iteration" else 7.0)


def test_two_metrics_never_share_a_column(tmp_path: Any) -> None:
    more = {"status": 1, "metrics/status": 2, "metrics/metrics/status": 3, "config/x": 4, "metrics/config/x": 5}
    table = written(FolderStorage(str(tmp_path)), run("random_search", **more), "loss").table
    columns = ["metrics/status", "metrics/metrics/status", "metrics/metrics/metrics/status"]
    columns += ["metrics/config/x", "metrics/metrics/config/x"]
    assert [table[column].tolist() for column in columns] == [[n] * SAMPLES for n in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize("metric", ["loss", "stopped_early"])
def test_a_searcher_does_not_take_a_metric_for_the_end_of_a_trial(metric: str) -> None:
    config, sweep = planned("tpe", metric)
    state = simulate(config, sweep, lambda *_: Step({"loss": 0.5, "stopped_early": True}))
    assert {trial.status for trial in state.trials.values()} == {"finished"}
    ends = [(trial.state.name, trial.value) for trial in config.search_alg.study.trials]
    assert ends == [("COMPLETE", 0.5 if metric == "loss" else 1.0)] * SAMPLES
