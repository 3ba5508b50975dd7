"""`--warm-start`: what each kind of strategy does with earlier trials, that it helps, and that a resume keeps it."""

import dataclasses
import statistics

import optuna
import pytest
from ray import tune

import raysweep
from raysweep.driver.runner import Runner
from raysweep.driver.warm_start import warm_started
from raysweep.history.results import SweepResults, read
from raysweep.history.sweep_state import SweepState
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.simulation import Step, simulate
from raysweep.spec.flags import Flags
from raysweep.spec.observations import Observation
from raysweep.spec.sweep import NoKnobs, Sweep, knobs_of, strategy
from raysweep.spec.task import Task
from tests.loop import sweeps
from tests.study.finished import ITERATIONS, TASK, noisy, sweep

EARLIER = Flags(warm_start=("first",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    sweep(folder, "first", samples=12)
    return folder


def config_of(asked):
    chosen = strategy(asked.strategy)
    return chosen.tune_config(asked, knobs_of(chosen, {}))


def new(folder, name, samples=8, **changes):
    asked = Sweep("new", name, TASK, TASK.space, "loss", "min", samples, ITERATIONS, (), 0, str(folder))
    return dataclasses.replace(asked, **changes)


def warm(asked, flags=EARLIER, resumed=None):
    found, said, problems = warm_started(asked, flags, config_of(asked), resumed)
    assert problems == []
    return found, said


def best_of_first(folder, count):
    rows = read("first", str(folder)).table.sort_values("loss")
    return rows.head(count)[["config/x", "config/y", "config/pace"]].to_numpy().tolist()


def test_a_model_is_given_them_as_complete_trials_and_draws_no_random_ones(folder, monkeypatch):
    asked, said = warm(new(folder, "tpe"))
    assert said == ["warm start from first (task quadratic): 12 of 12 trials; same parameters: `pace`, `x`, `y`"]
    config = config_of(asked)
    state = simulate(config, asked, noisy)
    trials = config.search_alg.study.get_trials()
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 20
    assert [trial.params for trial in trials[:12]] == [observation.config for observation in asked.earlier]
    assert [trial.value for trial in trials[:12]] == [observation.values[0] for observation in asked.earlier]
    assert len(state.trials) == 8, "earlier trials are none of the sweep's own"


def test_a_population_begins_with_the_best_of_them(folder):
    asked, _ = warm(new(folder, "pbt"))
    state = simulate(config_of(asked), asked, noisy, places=8)
    configs = [[trial.results[1].config[key] for key in ("x", "y", "pace")] for trial in state.trials.values()]
    assert configs[:2] == best_of_first(folder, 2)
    assert len(state.trials) == 8
    assert len(asked.points) == 2 == 8 // 4


@pytest.mark.parametrize("name", ["hyperband", "successive_halving"])
def test_brackets_begin_with_the_best_and_are_as_large_as_before(folder, name):
    asked, _ = warm(new(folder, name))
    state = simulate(config_of(asked), asked, noisy, places=2)
    configs = [[trial.config[key] for key in ("x", "y", "pace")] for trial in state.trials.values()]
    assert configs[:2] == best_of_first(folder, 2)
    assert len(state.trials) == 8


GRID = {"a": tune.choice([1, 2, 3]), "b": tune.choice(["u", "v"])}
GRID_TASK = Task("table", lambda config: None, GRID, "loss", "min", 1)


def observed(*configs):
    return tuple(
        Observation("memory://x", f"{n:05d}", config, 1, (float(n),), True) for n, config in enumerate(configs)
    )


def tabled(name, earlier, samples=1, space=GRID, seed=0):
    task = dataclasses.replace(GRID_TASK, space=space)
    asked = Sweep("new", name, task, space, "loss", "min", samples, 1, (), seed, "unused", earlier=earlier)
    return asked, simulate(config_of(asked), asked, lambda trial, config, iteration, state: Step({"loss": 1.0}))


def test_a_grid_skips_what_was_tried(folder):
    tried = observed({"a": 1, "b": "u"}, {"b": "v", "a": 3}, {"a": 1, "b": "u"})
    _, state = tabled("grid", tried, samples=2)
    rest = [{"a": 1, "b": "v"}, {"a": 2, "b": "u"}, {"a": 2, "b": "v"}, {"a": 3, "b": "u"}]
    found = [trial.config for trial in state.trials.values()]
    assert sorted(found, key=str) == sorted(rest * 2, key=str)
    assert all(trial.status == "finished" for trial in state.trials.values())


@pytest.mark.parametrize("name", ["random_search", "asha"])
def test_random_search_draws_what_was_not_tried(name):
    tried = observed(*({"a": a, "b": b} for a in (1, 2, 3) for b in "uv" if (a, b) != (2, "v")))
    _, state = tabled(name, tried, samples=4)
    assert [trial.config for trial in state.trials.values()] == [{"a": 2, "b": "v"}] * 4


def test_a_grid_of_which_nothing_is_left_is_refused():
    tried = observed(*({"a": a, "b": b} for a in (1, 2, 3) for b in "uv"))
    asked = Sweep("new", "grid", GRID_TASK, GRID, "loss", "min", 1, 1, (), 0, "unused", earlier=tried)
    known = SweepResults("unused/new", {}, SweepState([start(tried)]))
    _, _, problems = warm_started(asked, Flags(), config_of(asked), known)
    assert len(problems) == 1
    assert "every configuration of the grid was tried" in problems[0]


def start(observations):
    return {"type": "start", "seq": 1, "term": 1, "resumed": False, "warm_start": [o.to_dict() for o in observations]}


@pytest.mark.parametrize("name", ["random_search", "grid", "tpe", "tpe_asha"])
@pytest.mark.parametrize("events", [1, 6, 11])
def test_a_resumed_sweep_goes_on_as_an_undisturbed_one(name, events):
    tried = observed({"a": 1, "b": "u"}, {"a": 3, "b": "v"})
    asked, whole = tabled(name, tried, samples=1 if name == "grid" else 8)
    storage = sweeps.Mortal(lives=[events])

    def outcome(trial, config, iteration, state):
        return Step({"loss": 1.0})

    with pytest.raises(sweeps.Killed):
        simulate(config_of(asked), asked, outcome, storage=storage)
    storage.lives[0] = float("inf")
    state = simulate(config_of(asked), asked, outcome, storage=storage)
    assert [t.config for t in state.trials.values()] == [t.config for t in whole.trials.values()]


def test_the_start_event_says_once_which_trials_came_in_and_a_resume_reads_them_there(folder, tmp_path):
    asked, _ = warm(new(folder, "tpe"))
    runner = Runner(strategy("tpe"), asked, EARLIER, NoKnobs(), config_of(asked), MemoryStorage())
    noted = runner._warm_start(SweepState())
    assert [each["trial"] for each in noted["warm_start"]] == [f"{n:05d}" for n in range(12)]
    state = SweepState([{"type": "start", "seq": 1, "term": 1, "resumed": False, **noted}])
    assert runner._warm_start(state) == {}
    known = SweepResults("unused/new", {}, state)
    elsewhere = dataclasses.replace(new(folder, "tpe"), storage=str(tmp_path))  # the earlier sweep is not there
    again, said = warm(elsewhere, Flags(), known)
    assert again.earlier == asked.earlier
    assert said == []


def test_a_resume_with_other_earlier_sweeps_is_refused(folder):
    asked, _ = warm(new(folder, "tpe"))
    known = SweepResults("unused/new", {}, SweepState([start(asked.earlier)]))
    fresh = new(folder, "tpe")
    _, _, problems = warm_started(fresh, Flags(warm_start=("first", "second")), config_of(fresh), known)
    assert len(problems) == 1
    assert problems[0].startswith("`--warm-start second`: sweep `new` was started with ")
    begun = SweepState([{"type": "suggest", "seq": 1, "trial": "00000", "config": {}}])
    _, _, late = warm_started(fresh, EARLIER, config_of(fresh), SweepResults("unused/new", {}, begun))
    assert late[0].startswith("`--warm-start first`: sweep `new` was started without it")


def train(config):
    for _ in raysweep.iterations():
        raysweep.report({"loss": config["x"]}, state={})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"warm_start": ("nothing",)}, "`warm_start=nothing`: there is no sweep `nothing`"),
        ({"warm_start": ["first"]}, "`warm_start=first`: its trials have no `z`"),
        (
            {"warm_start": ["first"], "mode": "max"},
            "`warm_start=first`: its mode for `loss` is min, and here it is max",
        ),
        ({"warm_start": "first"}, "`warm_start=first`: must be a tuple"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_starts(folder, arguments, told):
    space = {**TASK.space, "z": tune.uniform(0, 1)}
    arguments = {"mode": "min", **arguments}
    with pytest.raises(raysweep.BadInput) as caught:
        raysweep.run("tpe", train, space, metric="loss", max_iterations=6, storage=folder, name="new", **arguments)
    assert any(problem.startswith(told) for problem in caught.value.problems), caught.value.problems
    assert not (folder / "new").exists()


def bowl(trial, config, iteration, state):
    return Step({"loss": (config["x"] - 0.3) ** 2 + (config["y"] + 0.4) ** 2})


def test_a_warm_started_model_finds_the_optimum_with_fewer_trials_than_a_cold_one():
    space = {"x": tune.uniform(-1.0, 1.0), "y": tune.uniform(-1.0, 1.0)}
    task = Task("bowl", lambda config: None, space, "loss", "min", 1)

    def trials_to(target, earlier, seed):
        asked = Sweep("new", "tpe", task, space, "loss", "min", 30, 1, (), seed, "unused", earlier=earlier)
        losses = [t.last.metrics["loss"] for t in simulate(config_of(asked), asked, bowl).trials.values()]
        return next((n for n, loss in enumerate(losses, 1) if loss <= target), len(losses) + 1)

    cold, warm = [], []
    for seed in range(10):
        first = Sweep("first", "random_search", task, space, "loss", "min", 30, 1, (), 100 + seed, "unused")
        trials = simulate(config_of(first), first, bowl).trials.values()
        earlier = tuple(
            Observation("memory://first", t.id, t.config, 1, (t.last.metrics["loss"],), True) for t in trials
        )
        cold.append(trials_to(0.01, (), seed))
        warm.append(trials_to(0.01, earlier, seed))
    assert statistics.mean(warm) < 0.7 * statistics.mean(cold)
    assert sum(w < c for w, c in zip(warm, cold, strict=True)) > sum(w > c for w, c in zip(warm, cold, strict=True))
