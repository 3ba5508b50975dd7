"""What every strategy promises, run over jobs/*.py by glob, through a real Ray."""

from __future__ import annotations

import ast
import csv
import io
import json
import math
import os
import pickle
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pytest
import torch
from ray import tune
from ray.tune.schedulers import FIFOScheduler

import raysweep
from jobs import tpe_asha
from raysweep.history import checkpoint, journal
from raysweep.history.results import SweepResults, read
from raysweep.history.sweep_state import SweepState
from raysweep.loop.recorder import KEEP_LAST, Recorder
from raysweep.spec.initial_points import Point
from raysweep.spec.sweep import Sweep, strategies, strategy
from raysweep.spec.task import load
from raysweep.storage import open_storage
from tasks import digits
from tests.strategy_kinds import KINDS
from tests.tasks.session import Session

# A continuous axis has no grid of its own: two points on each keep it small.
KNOBS: dict[str, dict[str, Any]] = {"grid": {"resolution": 2}}
SAMPLES = 6
JOBS = Path(raysweep.__file__).parents[1] / "jobs"

every_strategy = pytest.mark.parametrize("name", strategies())


@pytest.fixture(scope="module")
def place(private_ray: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("contract"))


@cache
def with_all_checkpoints(task: str, place: str) -> SweepResults:
    """A run of PBT that deletes no checkpoint, for the tests that look at what trials were given."""
    with mock.patch.object(Recorder, "expire"):
        return raysweep.run(
            "pbt", task, storage=place, name=f"{task}-pbt-all", samples=SAMPLES,
            max_iterations=6 if task == "digits" else 9,
        )  # fmt: skip


@cache
def sweep_of(name: str, task: str, place: str) -> SweepResults:
    """One run of a strategy, shared by the tests that look at it."""
    samples = None if name == "grid" else SAMPLES
    iterations = 6 if task == "digits" and name == "pbt" else 4 if task == "digits" else 9
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
    # The best, the last ones, and one that ends with a donor's.
    there = Counter(checkpoint.owner(key) for key in folder.list("checkpoints") if key.endswith(checkpoint.MARKER))
    assert max(there.values()) <= KEEP_LAST + 2


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


TOGETHER = ("hyperband", "pb2", "pbt", "successive_halving")


@every_strategy
def test_a_finished_sweep_can_be_extended_or_says_why_not(name: str, place: str) -> None:
    asked = {"storage": place, "name": f"extended-{name}", "max_iterations": 3, "knobs": KNOBS.get(name)}
    grid = name == "grid"
    first = raysweep.run(name, "quadratic", samples=1 if grid else 3, **asked)
    before = journal.read(open_storage(first.url))
    more = {"samples": 2 if grid else 5, "resume": "must", **asked}
    if name in TOGETHER:
        refusal = f"samples 3, not 5: {name} compares all its trials with each other"
        with pytest.raises(raysweep.BadInput, match=refusal):
            raysweep.run(name, "quadratic", **more)
        assert journal.read(open_storage(first.url)) == before
        return
    found = raysweep.run(name, "quadratic", **more)
    added = journal.read(open_storage(found.url))[len(before) :]
    assert len(found.state.trials) == (24 if grid else 5)
    assert {trial.status for trial in found.state.trials.values()} <= {"finished", "stopped"}
    assert {event["trial"] for event in added if "trial" in event} == set(found.state.trials) - set(first.state.trials)


@every_strategy
def test_its_scheduler_is_of_a_kind_that_runs_on_every_cluster(name: str) -> None:
    config = strategy(name).tune_config(_asked(name), strategy(name).knobs(**KNOBS.get(name, {})))
    scheduler = config.scheduler or FIFOScheduler()
    assert isinstance(scheduler, tuple(KINDS.values()))
    if name in KINDS:
        assert type(scheduler) is KINDS[name]


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


@pytest.mark.parametrize("task", ["quadratic", "digits"])
def test_pbt_exploits_go_from_the_bottom_quantile_to_the_top_one(task: str, place: str) -> None:
    found = sweep_of("pbt", task, place)
    sign = 1 if found.objective.modes == ("max",) else -1
    exploits, by_the_rule = exploits_of(found), 0
    assert exploits
    for event, before, _ in exploits:
        scores = population_scores(before, found.objective.metrics[0], event["trial"])
        ranked = sorted(scores, key=lambda trial: sign * scores[trial])
        size = min(math.ceil(len(ranked) * QUANTILE), len(ranked) // 2)
        worst, best = scores[ranked[size - 1]], scores[ranked[-size]]
        assert sign * scores[event["trial"]] < sign * scores[event["donor"]]
        # Out of step, the scores that PBT had in mind may be newer or older by one than those of the journal here.
        by_the_rule += sign * scores[event["trial"]] <= sign * worst and sign * scores[event["donor"]] >= sign * best
        changed = {key for key in event["after"] if event["after"][key] != event["before"][key]}
        assert changed & set(load(task).mutable or ())
        donor = SweepState(before).trials[event["donor"]]
        assert event["checkpoint"]["sha256"] in [r.checkpoint.sha256 for r in donor.results.values() if r.checkpoint]
    assert by_the_rule >= len(exploits) / 2


QUANTILE, INTERVAL = 0.25, 2  # what jobs/pbt.py has


def exploits_of(found: SweepResults) -> list[tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]]:
    """Each exploit, with the journal up to the result that decided it, and the first result after it."""
    events, exploits = journal.read(open_storage(found.url)), []
    for place, event in enumerate(events):
        if event["type"] == "exploit":
            results = [n for n, e in enumerate(events) if e["type"] == "result" and e["trial"] == event["trial"]]
            decided = max(n for n in results if n < place)
            following = events[min(n for n in results if n > place)]
            exploits.append((event, events[: decided + 1], following))
    return exploits


def population_scores(events: list[dict[str, Any]], metric: str, exploiting: str) -> dict[str, float]:
    """The score that each trial had when it last had a chance to exploit; those that have ended are out."""
    scores: dict[str, float] = {}
    chance: dict[str, int] = {}
    for event in events:
        trial = event.get("trial")
        if event["type"] == "result" and event["iteration"] - chance.get(trial, 0) >= INTERVAL:
            scores[trial], chance[trial] = event["metrics"][metric], event["iteration"]
        elif event["type"] == "exploit":  # the time of its last chance is the donor's now
            chance[trial] = event["checkpoint"]["iteration"]
        elif event["type"] == "complete":
            scores.pop(trial, None)
    assert exploiting in scores
    return scores


def test_pbt_continues_the_donors_path(place: str) -> None:
    found = with_all_checkpoints("quadratic", place)
    folder = open_storage(found.url)
    for event, _, following in exploits_of(found):
        taken = checkpoint.load(folder, checkpoint.Checkpoint.from_dict(event["checkpoint"]))
        assert following["iteration"] == event["checkpoint"]["iteration"] + 1
        continued = checkpoint.load(folder, checkpoint.Checkpoint.from_dict(following["checkpoint"]))
        assert continued["path"][: len(taken["path"])] == taken["path"]


def test_pbt_trains_the_donors_weights_with_the_perturbed_parameters(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch after each exploit, made again here from the donor's checkpoint, gives the trial's next checkpoint."""
    found = with_all_checkpoints("digits", place)
    folder, data = open_storage(found.url), digits.load_data(None)
    exploits = exploits_of(found)
    assert exploits
    torch.set_num_threads(1)
    for event, before, following in exploits:
        taken = checkpoint.load(folder, checkpoint.Checkpoint.from_dict(event["checkpoint"]))
        saved = checkpoint.load(folder, checkpoint.Checkpoint.from_dict(following["checkpoint"]))
        assert weights(epoch_after(monkeypatch, taken, event, event["after"], data)) == weights(saved)
        kept = event["after"] | {key: event["before"][key] for key in digits.MUTABLE}
        assert weights(epoch_after(monkeypatch, taken, event, kept, data)) != weights(saved)
        own = SweepState(before).trials[event["trial"]].checkpoint
        assert own is not None
        assert own.sha256 != event["checkpoint"]["sha256"]


def epoch_after(
    monkeypatch: pytest.MonkeyPatch, state: Any, event: dict[str, Any], config: dict[str, Any], data: Any
) -> Any:
    """What `digits` saves after one more epoch from a state."""
    session = Session(monkeypatch)
    session.saved, session.reports = pickle.dumps(state), [{}] * event["checkpoint"]["iteration"]
    session.run(digits, config, data, iterations=event["checkpoint"]["iteration"] + 1)
    monkeypatch.undo()
    return session.state


def weights(state: Any) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in state["model"].items()}


def test_the_study_of_the_search_itself_is_told_pruned(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the study that is written afterwards: the one that TPE learns from while the sweep runs."""
    chosen, searches = tpe_asha.tune_config, []

    def kept(sweep: Sweep, knobs: Any) -> tune.TuneConfig:
        config = chosen(sweep, knobs)
        searches.append(config.search_alg)
        return config

    monkeypatch.setattr(tpe_asha, "tune_config", kept)
    found = raysweep.run("tpe_asha", "digits", storage=place, name="studied", samples=10, max_iterations=4)
    search, _ = searches  # the other one was asked for a first draw, before the sweep began
    names = {"finished": "COMPLETE", "stopped": "PRUNED"}
    trials = list(found.state.trials.values())
    assert [trial.state.name for trial in search.study.trials] == [names[trial.status] for trial in trials]
    assert {trial.state.name for trial in search.study.trials} == {"COMPLETE", "PRUNED"}
    for told, trial in zip(search.study.trials, trials, strict=True):
        last = trial.last
        assert last is not None
        if told.state is optuna.trial.TrialState.PRUNED:
            assert max(told.intermediate_values) == last.iteration
            assert told.intermediate_values[last.iteration] == last.metrics["val_accuracy"]
        else:
            assert told.value == last.metrics["val_accuracy"]
        assert told.params == {key: trial.config[key] for key in told.params}


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
