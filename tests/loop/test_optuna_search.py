"""Optuna by ask and tell: stopped trials are PRUNED, and a resumed search suggests what an undisturbed one does.

Searches are driven by hand, one trial after the other, in the order of calls that the loop makes.
"""

import json
import logging
import math
import os
import subprocess
import sys
import threading
import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from ray import tune
from ray.tune.search.optuna import OptunaSearch as RayOptunaSearch

from raysweep.history.sweep_state import SweepState
from raysweep.loop.optuna_search import OptunaSearch
from raysweep.loop.searcher import STOPPED, Remembering, Resumable
from raysweep.spec.configuration import Codec
from raysweep.spec.initial_points import Point
from raysweep.spec.sweep import Sweep, knobs_of, strategy
from raysweep.spec.task import Task
from raysweep.values import to_json
from tests.waiting import PATIENCE_S

SPACE = {
    "lr": tune.loguniform(1e-4, 1e-1),
    "head": {"dropout": tune.uniform(0.0, 0.5)},
    "depth": tune.randint(1, 6),
    "act": tune.choice(["relu", "gelu"]),
    "epochs": 3,
}
NUMBERS = {"x": tune.uniform(-5.0, 5.0), "y": tune.uniform(-5.0, 5.0), "z": tune.uniform(-5.0, 5.0)}
FINISHED, STOP, FAIL, NAN, WAITING = "finished", "stopped", "failed", "nan", "waiting"


def random_sampler(seed):
    return optuna.samplers.RandomSampler(seed=seed)


def job_search(name, space, mode="min", points=(), seed=0, **knobs):
    """The searcher of jobs/<name>.py, set up as a sweep does it."""
    chosen = strategy(name)
    task = Task("mine", lambda config: None, space, "loss", mode, 3)
    sweep = Sweep("s", name, task, space, "loss", mode, 20, 3, tuple(points), seed, "runs")
    return ready(chosen.tune_config(sweep, knobs_of(chosen, knobs)).search_alg, space, mode)


def ready(search, space=SPACE, mode="min"):
    many = isinstance(search.metric, list)
    assert search.set_search_properties(None if many else "loss", None if many else mode, space)
    return search


def begun(**options):
    search = ready(OptunaSearch(random_sampler, **options))
    search.begin([])
    return search


@dataclass
class Drive:
    """Runs trials through a searcher, and keeps the events that the recorder would have journalled."""

    search: OptunaSearch
    metrics: callable
    events: list = field(default_factory=list)
    configs: list = field(default_factory=list)

    def journal(self, type, **fields):
        event = {"seq": len(self.events) + 1, "type": type, "time": 0.0, **fields}
        self.events.append(json.loads(to_json(event)))

    def records(self, before=None):
        """What a driver that takes over before an event finds."""
        return list(SweepState(self.events[:before]).trials.values())

    def ask(self, number):
        trial = f"{number:05d}"
        config = {**self.search.suggest(trial)}
        self.configs.append(config)
        written = Codec(self.search._space).write(config)
        self.journal("suggest", trial=trial, config=written, memory=self.search.memory(trial))
        return trial, config

    def result(self, trial, config, iteration, **other):
        metrics = {**self.metrics(config, iteration), **other}
        self.journal("result", trial=trial, iteration=iteration, metrics=metrics, checkpoint=None, node="n")
        return {**metrics, "training_iteration": iteration}

    def run(self, number, outcome, last=3):
        trial, config = self.ask(number)
        for iteration in range(1, last + 1):
            diverges = {"loss": math.nan} if outcome == NAN and iteration == last else {}
            self.search.on_trial_result(trial, self.result(trial, config, iteration, **diverges))
        self.end(trial, outcome)

    def end(self, trial, outcome):
        """As the loop does: with the newest result that has numbers."""
        status = STOP if outcome in (WAITING, NAN) else outcome
        self.journal("complete", trial=trial, status=status)
        metric = self.search.metric
        last = SweepState(self.events).trials[trial].last_with(metric if isinstance(metric, list) else [metric])
        result = {**last.metrics, "training_iteration": last.iteration} if last and outcome != WAITING else {}
        if status != FINISHED:
            result[STOPPED] = True
        self.search.on_trial_complete(trial, result or None, error=outcome == FAIL)


def bowl(config, iteration):
    x = [value for value in config.values() if isinstance(value, float)]
    return {"loss": sum((v - 1) ** 2 for v in x) + 1 / iteration}


def complete(search, outcome, value=0.5, seen=(3.0, 2.0)):
    """One trial with some results, ended; the study's record of it."""
    trial = search.suggest("00000") and "00000"
    for iteration, earlier in enumerate(seen, start=1):
        search.on_trial_result(trial, {"loss": earlier, "training_iteration": iteration})
    result = {"loss": value, "training_iteration": len(seen) + 1, "done": True, STOPPED: outcome == STOP}
    search.on_trial_complete(trial, None if outcome in (FAIL, WAITING) else result, error=outcome == FAIL)
    [frozen] = study_of(search).trials
    return frozen


def study_of(search):
    return search._ot_study if isinstance(search, RayOptunaSearch) else search.study


def test_a_stopped_trial_is_pruned_with_its_last_value_as_intermediate():
    frozen = complete(begun(), STOP, 1.5)
    assert frozen.state == TrialState.PRUNED
    assert frozen.intermediate_values == {1: 3.0, 2: 2.0, 3: 1.5}


def test_plain_ray_tells_optuna_that_a_stopped_trial_is_complete():
    frozen = complete(ready(RayOptunaSearch(sampler=random_sampler(0))), STOP, 1.5)
    assert (frozen.state, frozen.value) == (TrialState.COMPLETE, 1.5)


def test_a_trial_that_was_stopped_while_it_waited_is_pruned_with_what_it_reported():
    frozen = complete(begun(), WAITING)
    assert (frozen.state, frozen.intermediate_values) == (TrialState.PRUNED, {1: 3.0, 2: 2.0})


def test_a_finished_trial_is_complete():
    frozen = complete(begun(), FINISHED, 1.5)
    assert (frozen.state, frozen.value) == (TrialState.COMPLETE, 1.5)


def test_a_failed_trial_is_a_failure():
    assert complete(begun(), FAIL).state == TrialState.FAIL


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "low"])
def test_a_trial_that_ends_without_a_number_ranks_last(value):
    """TPE ignores a FAIL, and would suggest similar values again; PRUNED without values ranks last."""
    frozen = complete(begun(), FINISHED, value, seen=())
    assert (frozen.state, frozen.value) == (TrialState.PRUNED, None)


def test_nan_on_the_way_is_left_out():
    frozen = complete(begun(), STOP, math.nan, seen=(3.0, math.nan, 2.0))
    assert (frozen.state, frozen.intermediate_values) == (TrialState.PRUNED, {1: 3.0, 3: 2.0})


def test_an_end_reported_twice_counts_once():
    search = begun()
    complete(search, FINISHED, 1.5)
    search.on_trial_complete("00000", {"loss": 9.0, "training_iteration": 3, STOPPED: False})
    assert search.study.trials[0].value == 1.5


@pytest.mark.parametrize("outcome", [FINISHED, STOP])
def test_a_repeated_iteration_is_no_warning(outcome):
    # A trial that failed repeats what came after its checkpoint; Ray also repeats a last result at a time budget.
    search = begun()
    complete_twice = {"loss": 2.0, "training_iteration": 1, STOPPED: outcome == STOP}
    search.suggest("00000")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search.on_trial_result("00000", {"loss": 2.0, "training_iteration": 1})
        search.on_trial_result("00000", {"loss": 2.0, "training_iteration": 1})
        search.on_trial_complete("00000", complete_twice)
    assert search.study.trials[0].intermediate_values == {1: 2.0}


def test_the_newest_value_of_a_repeated_iteration_counts_live_and_after_a_resume():
    # The trial went back to its checkpoint after the second iteration, and did not come out where it was.
    values = iter([5.0, 4.0, 4.5, 3.0])
    drive = Drive(begun(), lambda config, iteration: {"loss": next(values)})
    trial, config = drive.ask(0)
    for iteration in (1, 2):
        drive.search.on_trial_result(trial, drive.result(trial, config, iteration))
    drive.journal("failure", trial=trial, error="killed", kind="lost")
    for iteration in (2, 3):
        drive.search.on_trial_result(trial, drive.result(trial, config, iteration))
    drive.end(trial, STOP)
    resumed = ready(OptunaSearch(random_sampler))
    live, again = states_of(drive, resumed)
    assert live == again
    for search in (drive.search, resumed):
        assert search.study.trials[0].intermediate_values == {1: 5.0, 2: 4.5, 3: 3.0}


def test_the_direction_is_the_mode():
    assert ready(OptunaSearch(random_sampler), mode="max").study.direction.name == "MAXIMIZE"
    assert ready(OptunaSearch(random_sampler), mode="min").study.direction.name == "MINIMIZE"


def test_a_suggestion_is_a_whole_configuration_nested_as_in_the_space():
    config = begun().suggest("00000")
    assert set(config) == {"lr", "head", "depth", "act", "epochs"}
    assert 0 <= config["head"]["dropout"] <= 0.5
    assert config["epochs"] == 3


def test_known_points_are_in_the_study_without_a_trial_and_the_others_are_tried_first():
    known = {"lr": 0.01, "head": {"dropout": 0.1}, "depth": 2, "act": "relu"}
    point = {"lr": 0.02, "head": {"dropout": 0.2}, "depth": 3, "act": "gelu"}
    search = begun(points=[Point(known, 0.7), Point(point)])
    first = search.study.trials[0]
    assert (first.state, first.value) == (TrialState.COMPLETE, 0.7)
    assert first.params == {"lr": 0.01, "head/dropout": 0.1, "depth": 2, "act": "relu"}
    assert search.suggest("00000") == {**point, "epochs": 3}
    assert search.suggest("00001") != {**point, "epochs": 3}


def test_points_that_were_tried_before_a_resume_are_not_tried_again():
    points = [Point({"lr": lr}) for lr in (0.01, 0.02, 0.03)]
    drive = Drive(begun(points=points), bowl)
    drive.run(0, FINISHED)
    drive.run(1, STOP)
    resumed = ready(OptunaSearch(random_sampler, points=points))
    resumed.begin(drive.records())
    assert resumed.suggest("00002")["lr"] == 0.03
    assert resumed.suggest("00003")["lr"] not in (0.01, 0.02, 0.03)


OUTCOMES = [FINISHED, STOP, FINISHED, NAN, FAIL, STOP, FINISHED, WAITING, FINISHED, STOP, FINISHED, FINISHED] * 2
KNOWN = Point({"x": 1.5, "y": 0.5, "z": 2.0}, 0.8)


@pytest.mark.parametrize(
    ("name", "space", "points", "knobs", "cuts"),
    [
        ("tpe", SPACE, (), {"startup_trials": 4}, range(16)),
        ("tpe_asha", NUMBERS, (KNOWN,), {"startup_trials": 4}, range(0, 16, 3)),
        ("gp", NUMBERS, (KNOWN,), {"startup_trials": 4}, (6,)),
        ("cma_es", NUMBERS, (), {"population": 4}, range(16)),
        ("cma_es", NUMBERS, (KNOWN, Point({"x": 1.0})), {"population": 5}, range(0, 16, 3)),
    ],
)
def test_a_resumed_search_suggests_what_the_undisturbed_one_suggests(name, space, points, knobs, cuts):
    count = 16 if name != "gp" else 9  # a GP takes its time

    def make():
        return job_search(name, space, points=points, seed=5, **knobs)

    undisturbed = Drive(make(), bowl)
    undisturbed.search.begin([])
    ends = []
    for number in range(count):
        ends.append(len(undisturbed.events))
        undisturbed.run(number, OUTCOMES[number], last=2 if OUTCOMES[number] == STOP else 3)
    assert len({str(config) for config in undisturbed.configs}) == count

    for cut in cuts:
        resumed = Drive(make(), bowl)
        resumed.search.begin(undisturbed.records(ends[cut]))
        for number in range(cut, min(cut + 4, count)):
            resumed.run(number, OUTCOMES[number], last=2 if OUTCOMES[number] == STOP else 3)
        assert resumed.configs == undisturbed.configs[cut : cut + 4], f"resumed before trial {cut}"


def test_a_trial_that_runs_on_after_a_resume_ends_in_the_study():
    drive = Drive(begun(), bowl)
    drive.run(0, FINISHED)
    trial, config = drive.ask(1)
    drive.search.on_trial_result(trial, drive.result(trial, config, 1))
    resumed = ready(OptunaSearch(random_sampler))
    resumed.begin(drive.records())
    assert [t.state.name for t in resumed.study.trials] == ["COMPLETE", "RUNNING"]
    resumed.on_trial_result(trial, {"loss": 0.3, "training_iteration": 2})
    resumed.on_trial_complete(trial, {"loss": 0.2, "training_iteration": 3, STOPPED: False})
    frozen = resumed.study.trials[1]
    assert (frozen.state, frozen.value) == (TrialState.COMPLETE, 0.2)
    assert sorted(frozen.intermediate_values) == [1, 2, 3]
    assert frozen.params == drive.search.study.trials[1].params


def test_a_resumed_tpe_counts_running_trials_as_the_undisturbed_one_does():
    undisturbed = Drive(job_search("tpe", NUMBERS, seed=5, startup_trials=4), bowl)
    undisturbed.search.begin([])
    for number in range(6):
        undisturbed.run(number, FINISHED)
    trial, config = undisturbed.ask(6)
    undisturbed.search.on_trial_result(trial, undisturbed.result(trial, config, 1))
    resumed = job_search("tpe", NUMBERS, seed=5, startup_trials=4)
    resumed.begin(undisturbed.records())
    assert resumed.suggest("00007") == undisturbed.search.suggest("00007")


def states_of(drive, resumed):
    resumed.begin(drive.records())
    return [[told_of(trial) for trial in search.study.trials] for search in (drive.search, resumed)]


def told_of(trial):
    return trial.state.name, trial.values, trial.params, trial.intermediate_values


@pytest.mark.parametrize("outcome", [FINISHED, STOP, FAIL, WAITING, NAN])
def test_a_resumed_study_has_the_same_trials_as_the_live_one(outcome):
    drive = Drive(begun(), bowl)
    drive.run(0, outcome)
    live, again = states_of(drive, ready(OptunaSearch(random_sampler)))
    assert live == again


def two(config, iteration):
    return {"loss": config["lr"] / iteration, "seconds": 2.0 * iteration}


def test_multi_objective_trials_have_both_values_and_directions():
    search = job_search("multi_objective", SPACE, mode="max", second_metric="seconds", second_mode="min")
    search.begin([])
    Drive(search, two).run(0, FINISHED)
    assert [direction.name for direction in search.study.directions] == ["MAXIMIZE", "MINIMIZE"]
    [frozen] = search.study.trials
    assert (frozen.state, frozen.values) == (TrialState.COMPLETE, [frozen.params["lr"] / 3, 6.0])


def test_a_multi_objective_trial_without_one_of_its_numbers_is_on_no_front():
    search = job_search("multi_objective", SPACE, second_metric="seconds")
    search.begin([])
    Drive(search, lambda config, iteration: {"loss": 1.0, "seconds": math.nan}).run(0, FINISHED)
    assert (search.study.trials[0].state, search.study.best_trials) == (TrialState.PRUNED, [])


@pytest.mark.parametrize("outcomes", [[FINISHED], [STOP], [FINISHED, STOP, WAITING, FAIL]])
def test_multi_objective_resumes(outcomes):
    knobs = {"second_metric": "seconds", "startup_trials": 3}
    undisturbed = Drive(job_search("multi_objective", SPACE, **knobs), two)
    undisturbed.search.begin([])
    for number in range(12):
        undisturbed.run(number, outcomes[number % len(outcomes)])
    expected = undisturbed.search.suggest("00012")
    resumed = job_search("multi_objective", SPACE, **knobs)
    resumed.begin(undisturbed.records())
    assert resumed.suggest("00012") == expected


@pytest.mark.parametrize(("outcome", "last"), [(STOP, 3), (WAITING, 0)])
def test_a_multi_objective_trial_ended_by_a_time_limit_is_the_same_after_a_resume(outcome, last):
    knobs = {"second_metric": "seconds"}
    drive = Drive(job_search("multi_objective", SPACE, **knobs), two)
    drive.search.begin([])
    drive.run(0, outcome, last)
    live, again = states_of(drive, job_search("multi_objective", SPACE, **knobs))
    assert live == again
    [(state, values, *_)] = live
    assert (state, values) == ("PRUNED", None)


def test_it_implements_the_loops_protocols():
    search = begun()
    assert isinstance(search, Resumable)
    assert isinstance(search, Remembering)


def test_there_is_no_study_before_the_space_and_only_one_after_it():
    search = OptunaSearch(random_sampler)
    with pytest.raises(RuntimeError, match="set_search_properties"):
        search.study.ask()
    study = ready(search).study
    assert not search.set_search_properties("other", "max", NUMBERS)
    assert (search.study, search.metric, search.mode) == (study, "loss", "min")


def test_searches_know_nothing_of_each_other():
    first, second = begun(), begun()
    assert first.suggest("00000") == second.suggest("00000")
    complete(first, FINISHED, 1.5)
    assert [trial.state.name for trial in second.study.trials] == ["RUNNING"]
    assert first.study.study_name != second.study.study_name


def test_a_search_without_metric_and_mode_is_refused():
    with pytest.raises(ValueError, match="a metric and a mode"):
        OptunaSearch(random_sampler).set_search_properties(None, None, SPACE)


# Ray's own conversion is the measure of what each domain means.

EVERY_DOMAIN = {
    "nested": {"deep": {"float": tune.uniform(0, 1)}, "even": tune.qrandint(0, 10, 2)},
    "log": tune.loguniform(1e-4, 1e-1),
    "int": tune.randint(1, 6),
    "log_int": tune.lograndint(1, 1000),
    "steps": tune.quniform(0, 1, 0.25),
    "log_steps": tune.qloguniform(0.01, 1, 0.01),
    "plain": tune.choice(["relu", None, True, 3, 2.5]),
    "weighted": tune.choice([1, 1, 2]),
}


def test_domains_mean_what_they_mean_to_ray_and_are_drawn_in_the_same_order():
    search = ready(OptunaSearch(random_sampler), EVERY_DOMAIN)
    search.suggest("00000")
    drawn = search.study.trials[0].distributions
    expected = RayOptunaSearch.convert_search_space(EVERY_DOMAIN)
    assert list(drawn.items()) == list(expected.items())


def test_the_same_seed_draws_what_it_drew_through_rays_wrapper():
    """Recorded when OptunaSearch was a subclass of Ray's."""
    config = ready(OptunaSearch(random_sampler, seed=7), EVERY_DOMAIN).suggest("00003")
    nested = {"deep": {"float": pytest.approx(0.2782576477405121)}, "even": 10}
    numbers = {
        "log": pytest.approx(0.039062291105957714),
        "log_steps": pytest.approx(0.011368021957771417),
        "steps": 0.0,
    }
    assert config == {"nested": nested, **numbers, "int": 2, "log_int": 206, "plain": 3, "weighted": 1}


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"a": {"b": tune.grid_search([1, 2])}}, "`a/b` is a grid_search"),
        ({"a": {"b": tune.randn(0, 1)}}, "`a/b` is Float with _Normal"),
        ({"a": tune.sample_from(lambda spec: 1)}, "`a` is Function"),
        ({"a/b": tune.uniform(0, 1), "a": {"b": tune.uniform(0, 1)}}, "`a/b` is the name of two parameters"),
    ],
)
def test_what_optuna_cannot_draw_is_refused_by_name(space, problem):
    with pytest.raises(ValueError, match=problem):
        ready(OptunaSearch(random_sampler), space)


def test_values_stand_at_their_paths_whatever_their_keys():
    space = {"a/b": tune.uniform(0, 1), "layers": [{1: tune.randint(1, 9)}, 5, (tune.uniform(2, 3), 6)]}
    drive = Drive(ready(OptunaSearch(random_sampler), space), bowl)
    _, config = drive.ask(0)
    assert 0 <= config["a/b"] < 1
    assert config["layers"][0][1] in range(1, 9)
    assert (config["layers"][1], config["layers"][2][1]) == (5, 6)
    assert 2 <= config["layers"][2][0] < 3
    resumed = ready(OptunaSearch(random_sampler), space)
    resumed.begin(drive.records())
    assert resumed.study.trials[0].params == drive.search.study.trials[0].params


def test_constants_are_copied_where_they_can_change_and_are_the_very_objects_else():
    lock, numbers, pair = threading.Lock(), np.arange(3), namedtuple("Pair", "a b")(1, torch.Size([2, 3]))
    fixed = {"lock": lock, "numbers": numbers, "make": bowl, "pair": pair, "order": OrderedDict(b=1, a=[1, {"c": 2}])}
    space = {"x": tune.uniform(0, 1), "fixed": fixed, "depths": [1, 2]}
    search = ready(OptunaSearch(random_sampler), space)
    first, second = search.suggest("00000"), search.suggest("00001")
    for name in ("lock", "numbers", "make", "pair"):
        assert first["fixed"][name] is fixed[name]
    assert first["fixed"]["order"] == fixed["order"]
    assert isinstance(first["fixed"]["order"], OrderedDict)
    first["fixed"]["order"]["a"][1]["c"] = first["depths"][0] = None
    assert (second["fixed"]["order"]["a"], second["depths"]) == ([1, {"c": 2}], [1, 2])
    assert (space["fixed"]["order"]["a"], space["depths"]) == ([1, {"c": 2}], [1, 2])


# Choices that Optuna does not take as they are.


class Activation:
    def __init__(self, slope):
        self.slope = slope


def half(x):
    return x / 2


def twice(x):
    return x * 2


OBJECTS = {
    "functions": [half, twice, torch.relu],
    "classes": [dict, Activation, torch.nn.ReLU],
    "lambdas": [lambda x: x, lambda x: -x, None],
    "instances": [Activation(0.1), Activation(0.2)],
    "locks": [threading.Lock(), threading.Lock()],
    "paths": [Path("a"), Path("b"), "a"],
    "types": [torch.float32, torch.float16],
    "numpy numbers": [np.float32(0.1), np.float64(0.5), np.int64(3)],
    "arrays": [np.zeros(3), np.ones(3), np.ones((3, 2))],
    "long arrays": [np.zeros(5000), np.concatenate([np.zeros(2500), np.ones(1), np.zeros(2499)])],
    "tuples": [(1, 2), (1, 3), (np.ones(2), half)],
    "lists": [[1, 2], [1, [3]], []],
    "dicts": [{"name": "sgd", "lr": 0.1}, {"name": "adam"}, {1: "a", (2, 3): half}],
    "mixed": [None, True, 1, 1.5, "relu", half, (1,), [1]],
}


@pytest.mark.parametrize("kind", sorted(OBJECTS))
def test_a_trial_is_given_the_very_object_of_the_space(kind):
    search = ready(OptunaSearch(random_sampler), {"x": tune.uniform(0, 1), "object": tune.choice(OBJECTS[kind])})
    given = [search.suggest(f"{n:05d}")["object"] for n in range(80)]
    assert {id(each) for each in given} == {id(each) for each in OBJECTS[kind]}
    indices = [trial.params["object"] for trial in search.study.trials]
    assert [id(OBJECTS[kind][index]) for index in indices] == [id(each) for each in given]


def test_plain_choices_stand_in_the_study_as_they_are():
    assert complete(begun(), FINISHED).params["act"] in ("relu", "gelu")


@pytest.mark.parametrize("kind", sorted(OBJECTS))
def test_a_resumed_search_draws_objects_as_the_undisturbed_one_does(kind):
    space = {"x": tune.uniform(-5, 5), "object": tune.choice(OBJECTS[kind])}
    undisturbed = Drive(job_search("tpe", space, seed=5, startup_trials=4), bowl)
    undisturbed.search.begin([])
    for number in range(8):
        undisturbed.run(number, OUTCOMES[number])
    resumed = job_search("tpe", space, seed=5, startup_trials=4)
    resumed.begin(undisturbed.records())
    assert [told_of(t) for t in resumed.study.trials] == [told_of(t) for t in undisturbed.search.study.trials]
    expected, actual = undisturbed.search.suggest("00008"), resumed.suggest("00008")
    assert (expected["x"], id(expected["object"])) == (actual["x"], id(actual["object"]))
    assert resumed.memory("00008") == undisturbed.search.memory("00008")


def test_equal_choices_share_an_index():
    search = ready(OptunaSearch(random_sampler), {"twice": tune.choice([(1, 2), (1, 2), (0, 1)])})
    search.suggest("00000")
    assert search.study.trials[0].distributions["twice"].choices == (0, 0, 2)


def test_numbers_that_are_equal_to_optuna_are_told_apart():
    search = ready(OptunaSearch(random_sampler), {"mixed": tune.choice([1, True, 1.0])})
    assert {type(search.suggest(f"{n:05d}")["mixed"]) for n in range(40)} == {int, bool, float}


@pytest.mark.parametrize("gone", [{"object": "<function gone at 0x1>"}, {"object": "<function <lambda> at 0x1>"}, {}])
def test_a_trial_of_another_space_is_left_out_of_the_study_with_a_warning(gone, caplog):
    space = {"object": tune.choice(OBJECTS["lambdas"])}
    drive = Drive(ready(OptunaSearch(random_sampler), space), bowl)
    drive.journal("suggest", trial="00000", config=gone)
    drive.journal("suggest", trial="00001", config={"object": None})
    search = ready(OptunaSearch(random_sampler), space)
    with caplog.at_level(logging.WARNING):
        search.begin(drive.records())
    assert [record.getMessage()[:42] for record in caplog.records] == ["trial 00000 is left out of the study: it w"]
    assert [trial.params for trial in search.study.trials] == [{"object": 2}]
    search.on_trial_result("00000", {"loss": 1.0, "training_iteration": 1})
    search.on_trial_complete("00000", {"loss": 1.0, "training_iteration": 1})
    assert [trial.state.name for trial in search.study.trials] == ["RUNNING"]


def test_a_number_outside_of_its_domain_leaves_a_trial_out_too(caplog):
    drive = Drive(begun(), bowl)
    drive.journal("suggest", trial="00000", config={"lr": 7.0, "head": {"dropout": 0.1}, "depth": 2, "act": "relu"})
    search = ready(OptunaSearch(random_sampler))
    search.begin(drive.records())
    assert (len(caplog.records), search.study.trials) == (1, [])


def test_points_name_objects_and_nested_parameters():
    space = {"object": tune.choice(OBJECTS["tuples"]), "head": {"dropout": tune.uniform(0, 1)}}
    points = [
        Point({"object": (1, 3), "head/dropout": 0.5}, 0.7),
        Point({"object": (1, 3), "head": {"dropout": 0.25}}),
        Point({"head/dropout": 0.75}),
    ]
    search = ready(OptunaSearch(random_sampler, points=points), space)
    search.begin([])
    assert search.study.trials[0].params == {"object": 1, "head/dropout": 0.5}
    assert search.suggest("00000") == {"object": (1, 3), "head": {"dropout": 0.25}}
    assert search.suggest("00001")["head"] == {"dropout": 0.75}


# What a trial that diverged or failed leaves behind.


@pytest.mark.parametrize("outcome", [NAN, FAIL])
@pytest.mark.parametrize("name", ["tpe", "tpe_asha", "gp", "cma_es"])
def test_a_resumed_search_goes_on_as_the_live_one_after_trials_that_diverged_or_failed(name, outcome):
    live = Drive(job_search(name, NUMBERS, seed=3, **({} if name == "cma_es" else {"startup_trials": 3})), bowl)
    live.search.begin([])
    for number in range(8):
        live.run(number, outcome if number % 2 else FINISHED, last=3 + number % 3)
    resumed = job_search(name, NUMBERS, seed=3, **({} if name == "cma_es" else {"startup_trials": 3}))
    resumed.begin(live.records())
    assert [told_of(trial) for trial in resumed.study.trials] == [told_of(trial) for trial in live.search.study.trials]
    assert any(trial.intermediate_values for trial in resumed.study.trials if trial.state != TrialState.COMPLETE)
    assert resumed.suggest("00008") == live.search.suggest("00008")


def test_a_step_that_is_repeated_without_a_number_has_none_live_and_after_a_resume():
    values = iter([5.0, 4.0, 3.0, math.nan])
    drive = Drive(begun(), lambda config, iteration: {"loss": next(values)})
    trial, config = drive.ask(0)
    for iteration in (1, 2, 3):
        drive.search.on_trial_result(trial, drive.result(trial, config, iteration))
    drive.journal("failure", trial=trial, error="killed", kind="lost")
    drive.search.on_trial_result(trial, drive.result(trial, config, 3))
    drive.end(trial, STOP)
    live, again = states_of(drive, ready(OptunaSearch(random_sampler)))
    assert live == again
    [(*_, steps)] = live
    assert steps == {1: 5.0, 2: 4.0}


def test_a_final_value_is_the_newest_that_there_is_live_and_after_a_resume():
    """The task reports its metric now and then only."""
    drive = Drive(begun(), lambda config, iteration: {"loss": 2.0} if iteration == 2 else {"other": 1.0})
    drive.run(0, FINISHED)
    live, again = states_of(drive, ready(OptunaSearch(random_sampler)))
    assert live == again
    assert live[0][:2] == ("COMPLETE", [2.0])


# Optuna's own log.


def test_optuna_logs_nothing_during_a_search_and_as_before_afterwards(monkeypatch):
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("optuna")
    monkeypatch.setattr(logger, "handlers", [handler])
    before = logger.level
    try:
        optuna.logging.set_verbosity(optuna.logging.INFO)
        drive = Drive(job_search("tpe", NUMBERS, startup_trials=3), bowl)
        drive.search.begin([])
        for number in range(6):
            drive.run(number, OUTCOMES[number])
        ready(OptunaSearch(random_sampler, points=[KNOWN]), NUMBERS).begin(drive.records())
        assert said == []
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
        optuna.create_study()
        assert len(said) == 1
    finally:
        logger.setLevel(before)


def test_importing_it_does_not_change_optunas_logging():
    code = (
        "import optuna; before = optuna.logging.get_verbosity();"
        "import raysweep.loop.optuna_search; assert optuna.logging.get_verbosity() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, timeout=PATIENCE_S)
