"""What every strategy promises, run over jobs/*.py by glob, through a real Ray."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from ray import tune

import raysweep
from raysweep import checkpoint, journal
from raysweep.points import Point
from raysweep.results import SweepResults, read
from raysweep.state import SweepState
from raysweep.storage import open_storage
from raysweep.sweep import Sweep, strategies, strategy
from raysweep.task import load

# A continuous axis has no grid of its own: two points on each keep it small.
KNOBS: dict[str, dict[str, Any]] = {"grid": {"resolution": 2}}
SAMPLES = 6
JOBS = Path(raysweep.__file__).parents[1] / "jobs"

every_strategy = pytest.mark.parametrize("name", strategies())


@pytest.fixture(scope="module")
def place(private_ray: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("contract"))


@cache
def sweep_of(name: str, task: str, place: str) -> SweepResults:
    """One run of a strategy, shared by the tests that look at it."""
    samples = None if name == "grid" else SAMPLES
    iterations = 4 if task == "digits" else 9
    return raysweep.run(
        name, task, storage=place, name=f"{task}-{name}", samples=samples, max_iterations=iterations,
        knobs=KNOBS.get(name),
    )  # fmt: skip


def test_a_sweep_leaves_no_settings_of_ray_behind(place: str) -> None:
    def settings() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.startswith(("RAY_", "TUNE_"))}

    before = settings()
    raysweep.run("random_search", "quadratic", storage=place, samples=1, max_iterations=1)
    assert settings() == before


@every_strategy
def test_every_trial_ends_and_the_journal_has_each_iteration(name: str, place: str) -> None:
    found = sweep_of(name, "quadratic", place)
    trials = found.state.trials
    assert len(trials) == (12 if name == "grid" else SAMPLES)
    assert {trial.status for trial in trials.values()} <= {"finished", "stopped"}
    assert any(trial.status == "finished" or name in ("hyperband",) for trial in trials.values())
    for trial in trials.values():
        iterations = sorted(trial.results)
        # An exploited trial goes on from its donor, which may be an iteration ahead.
        assert iterations == list(range(1, len(iterations) + 1)) or (trial.donors and iterations[0] == 1)


@every_strategy
def test_storage_is_enough_to_read_everything_again(name: str, place: str) -> None:
    found = sweep_of(name, "quadratic", place)
    again = read(f"quadratic-{name}", place)
    assert again.table.equals(found.table)
    folder = open_storage(found.url)
    rows = list(csv.DictReader(io.StringIO(folder.get("trials.csv").decode())))
    assert [row["trial"] for row in rows] == list(found.state.trials)
    best = json.loads(folder.get("best.json"))
    assert best == (found.best or {"front": found.front})
    events = {key.split("/")[1] for key in folder.list("tensorboard/")}
    assert events == set(found.state.trials)


@every_strategy
def test_kept_checkpoints_load_and_hold_what_was_reported(name: str, place: str) -> None:
    found = sweep_of(name, "quadratic", place)
    folder = open_storage(found.url)
    kept = [(t, r) for t in found.state.trials.values() for r in t.results.values() if r.checkpoint]
    assert len({trial.id for trial, _ in kept}) == len(found.state.trials)
    for _trial, result in kept:
        assert checkpoint.load(folder, result.checkpoint) is not None


@every_strategy
def test_optuna_sees_how_each_trial_ended(name: str, place: str) -> None:
    found = sweep_of(name, "quadratic", place)
    backend = optuna.storages.journal.JournalFileBackend(f"{found.url}/optuna.log")
    study = optuna.load_study(study_name=f"quadratic-{name}", storage=optuna.storages.JournalStorage(backend))
    names = {"finished": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    told = {trial.user_attrs["trial"]: trial.state.name for trial in study.trials}
    assert told == {trial.id: names[trial.status] for trial in found.state.trials.values()}


@every_strategy
def test_real_data_is_learnt(name: str, place: str) -> None:
    found = sweep_of(name, "digits", place)
    best = found.best or max(found.front, key=lambda entry: entry["val_accuracy"])
    assert best["val_accuracy"] > 0.7
    assert found.load(best["checkpoint"]) is not None


@every_strategy
def test_it_returns_rays_own_tune_config(name: str) -> None:
    config = strategy(name).tune_config(_asked(name), strategy(name).knobs(**KNOBS.get(name, {})))
    assert type(config) is tune.TuneConfig


@every_strategy
def test_points_come_first_or_are_refused_by_name(name: str) -> None:
    first = {"x": 0.5, "y": -1.5, "pace": 0.5}
    asked = _asked(name, (Point(first),))
    chosen = strategy(name)
    if name == "grid":
        with pytest.raises(raysweep.BadInput, match="`grid`"):
            chosen.tune_config(asked, chosen.knobs(**KNOBS[name]))
        return
    config = chosen.tune_config(asked, chosen.knobs())
    searcher = config.search_alg or raysweep.Variants(asked.space, asked.points, asked.seed)
    searcher.set_search_properties(*_objective(name), asked.space)
    searcher.begin([])
    assert searcher.suggest("00000") == first


def _objective(name: str) -> tuple[str | None, str | None]:
    return (None, None) if name == "multi_objective" else ("loss", "min")


@every_strategy
def test_the_file_explains_itself(name: str) -> None:
    tree = ast.parse((JOBS / f"{name}.py").read_text())
    text = " ".join((ast.get_docstring(tree) or "").split())
    assert "Choose it" in text
    assert "Do not choose it" in text
    assert "Cost:" in text
    assert f"python jobs/{name}.py" in text


def _asked(name: str, points: tuple[Point, ...] = ()) -> Sweep:
    task = load("quadratic")
    return Sweep("s", name, task, task.space, task.metric, task.mode, SAMPLES, 9, points, 0, "unused")


def test_pbt_exploits_take_over_the_donors_state_and_change_what_may_change(place: str) -> None:
    found = sweep_of("pbt", "quadratic", place)
    events = journal.read(open_storage(found.url))
    exploits = [event for event in events if event["type"] == "exploit"]
    assert exploits
    for event in exploits:
        _check_exploit(event, events, open_storage(found.url))


def _check_exploit(event: dict[str, Any], events: list[dict[str, Any]], folder: Any) -> None:
    before = SweepState([earlier for earlier in events if earlier["seq"] < event["seq"]])
    donor = before.trials[event["donor"]]
    assert event["checkpoint"]["sha256"] in [r.checkpoint.sha256 for r in donor.results.values() if r.checkpoint]
    scores = {t.id: t.last.metrics["loss"] for t in before.trials.values() if t.last}
    assert scores[event["donor"]] < scores[event["trial"]]
    assert {key for key in event["after"] if event["after"][key] != event["before"][key]} & {"x", "y"}
    # The donor's path is the beginning of the path that the trial saved next.
    taken = checkpoint.load(folder, checkpoint.Checkpoint.from_dict(event["checkpoint"]))
    following = next(
        e for e in events if e["seq"] > event["seq"] and e["type"] == "result" and e["trial"] == event["trial"]
    )
    assert following["iteration"] == event["checkpoint"]["iteration"] + 1
    continued = checkpoint.load(folder, checkpoint.Checkpoint.from_dict(following["checkpoint"]))
    assert continued["path"][: len(taken["path"])] == taken["path"]


def test_asha_stops_by_its_rule(place: str) -> None:
    """At rung r eta^k a trial goes on only if it is no worse than the best 1/eta of those recorded there before."""
    found = sweep_of("asha", "quadratic", place)
    rungs: dict[int, list[float]] = {1: [], 3: [], 9: []}
    stopped_at: dict[str, int] = {}
    for event in journal.read(open_storage(found.url)):
        if event["type"] != "result" or event["iteration"] not in rungs:
            continue
        recorded, value = rungs[event["iteration"]], -event["metrics"]["loss"]
        better = sorted(recorded)[::-1]
        allowed = _cutoff(better)
        if allowed is not None and value < allowed:
            stopped_at.setdefault(event["trial"], event["iteration"])
        recorded.append(value)
    expected = {trial: it for trial, it in stopped_at.items() if it < 9}
    seen = {t.id: max(t.results) for t in found.state.trials.values() if t.status == "stopped"}
    assert seen == expected
    assert seen


def _cutoff(better: list[float]) -> float | None:
    """The value at the upper third, between two records where it falls between them; None without records."""
    if not better:
        return None
    position = (1 - 1 / 3) * (len(better) - 1)
    ordered, low = better[::-1], int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
