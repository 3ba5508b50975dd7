"""Optuna through Ray: stopped trials are PRUNED, and a resumed search asks for what it would have asked for anyway.

Searches are driven by hand, one trial after the other, in the order of calls that Ray's controller makes.
"""

import json
import math
import warnings
from dataclasses import dataclass, field

import optuna
import pytest
from optuna.trial import TrialState
from ray import tune
from ray.tune.search.optuna import OptunaSearch as RayOptunaSearch

from raysweep.optuna_search import OptunaSearch
from raysweep.points import Point
from raysweep.source import STOPPED
from raysweep.state import SweepState
from raysweep.sweep import Sweep, knobs_of, strategy
from raysweep.task import Task

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
    """The searcher that jobs/<name>.py gives to Ray, set up as Ray does it."""
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
        self.events.append(json.loads(json.dumps(event)))

    def ask(self, number):
        trial = f"{number:05d}"
        config = {**self.search.suggest(trial)}
        self.configs.append(config)
        self.journal("suggest", trial=trial, config=config, memory=self.search.memory(trial))
        return trial, config

    def result(self, trial, config, iteration):
        metrics = self.metrics(config, iteration)
        self.journal("result", trial=trial, iteration=iteration, metrics=metrics, checkpoint=None, node="n")
        return {**metrics, "training_iteration": iteration}

    def run(self, number, outcome, last=3):
        trial, config = self.ask(number)
        result = None
        for iteration in range(1, last + 1):
            result = self.result(trial, config, iteration)
            if iteration < last or outcome in (FAIL, WAITING):
                self.search.on_trial_result(trial, result)
        self.end(trial, result, outcome)

    def end(self, trial, result, outcome):
        if outcome == FAIL:
            self.search.on_trial_complete(trial, error=True)
        elif outcome == WAITING:
            self.search.on_trial_complete(trial, result=None)
        else:
            self.search.on_trial_complete(trial, {**result, "done": True, STOPPED: outcome == STOP})
        self.journal("complete", trial=trial, status=STOP if outcome == WAITING else outcome)


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
    [told] = search._ot_study.trials
    return told


def test_a_stopped_trial_is_pruned_with_its_last_value_as_intermediate():
    told = complete(begun(), STOP, 1.5)
    assert told.state == TrialState.PRUNED
    assert told.intermediate_values == {1: 3.0, 2: 2.0, 3: 1.5}


def test_plain_ray_tells_optuna_that_a_stopped_trial_is_complete():
    told = complete(ready(RayOptunaSearch(sampler=random_sampler(0))), STOP, 1.5)
    assert (told.state, told.value) == (TrialState.COMPLETE, 1.5)


def test_a_trial_that_was_stopped_while_it_waited_is_pruned_with_what_it_reported():
    told = complete(begun(), WAITING)
    assert (told.state, told.intermediate_values) == (TrialState.PRUNED, {1: 3.0, 2: 2.0})


def test_a_finished_trial_is_complete():
    told = complete(begun(), FINISHED, 1.5)
    assert (told.state, told.value) == (TrialState.COMPLETE, 1.5)


def test_a_failed_trial_is_a_failure():
    assert complete(begun(), FAIL).state == TrialState.FAIL


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "low"])
def test_a_trial_that_ends_without_a_number_ranks_last(value):
    """TPE learns nothing of a FAIL, and would ask for the like again; what is PRUNED without values comes last."""
    told = complete(begun(), FINISHED, value, seen=())
    assert (told.state, told.value) == (TrialState.PRUNED, None)


def test_nan_on_the_way_is_left_out():
    told = complete(begun(), STOP, math.nan, seen=(3.0, math.nan, 2.0))
    assert (told.state, told.intermediate_values) == (TrialState.PRUNED, {1: 3.0, 3: 2.0})


def test_an_end_told_twice_counts_once():
    search = begun()
    complete(search, FINISHED, 1.5)
    search.on_trial_complete("00000", {"loss": 9.0, "training_iteration": 3, STOPPED: False})
    assert search.study.trials[0].value == 1.5


@pytest.mark.parametrize("outcome", [FINISHED, STOP])
def test_a_repeated_iteration_is_no_warning(outcome):
    # A trial that failed repeats what came after its checkpoint; Ray also tells a last result again at a time budget.
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
    drive.search.on_trial_result(trial, drive.result(trial, config, 2))
    drive.end(trial, drive.result(trial, config, 3), STOP)
    resumed = ready(OptunaSearch(random_sampler))
    live, again = states_of(drive, resumed)
    assert live == again
    for search in (drive.search, resumed):
        assert search.study.trials[0].intermediate_values == {1: 5.0, 2: 4.5, 3: 3.0}


def test_the_direction_is_the_mode():
    assert ready(OptunaSearch(random_sampler), mode="max").study.direction.name == "MAXIMIZE"
    assert ready(OptunaSearch(random_sampler), mode="min").study.direction.name == "MINIMIZE"


def test_a_suggestion_has_what_is_drawn_nested_as_in_the_space():
    config = begun().suggest("00000")
    assert set(config) == {"lr", "head", "depth", "act"}
    assert 0 <= config["head"]["dropout"] <= 0.5


def test_known_points_are_in_the_study_without_a_trial_and_the_others_are_tried_first():
    known = {"lr": 0.01, "head": {"dropout": 0.1}, "depth": 2, "act": "relu"}
    wanted = {"lr": 0.02, "head": {"dropout": 0.2}, "depth": 3, "act": "gelu"}
    search = begun(points=[Point(known, 0.7), Point(wanted)])
    first = search.study.trials[0]
    assert (first.state, first.value) == (TrialState.COMPLETE, 0.7)
    assert first.params == {"lr": 0.01, "head/dropout": 0.1, "depth": 2, "act": "relu"}
    assert search.suggest("00000") == wanted
    assert search.suggest("00001") != wanted


def test_points_that_were_tried_before_a_resume_are_not_tried_again():
    points = [Point({"lr": lr}) for lr in (0.01, 0.02, 0.03)]
    drive = Drive(begun(points=points), bowl)
    drive.run(0, FINISHED)
    drive.run(1, STOP)
    resumed = ready(OptunaSearch(random_sampler, points=points))
    resumed.begin(list(SweepState(drive.events).trials.values()))
    assert resumed.suggest("00002")["lr"] == 0.03
    assert resumed.suggest("00003")["lr"] not in (0.01, 0.02, 0.03)


OUTCOMES = [FINISHED, STOP, FINISHED, FINISHED, FAIL, STOP, FINISHED, WAITING, FINISHED, STOP, FINISHED, FINISHED] * 2
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
def test_a_resumed_search_asks_for_what_the_undisturbed_one_asks_for(name, space, points, knobs, cuts):
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
        resumed.search.begin(list(SweepState(undisturbed.events[: ends[cut]]).trials.values()))
        for number in range(cut, min(cut + 4, count)):
            resumed.run(number, OUTCOMES[number], last=2 if OUTCOMES[number] == STOP else 3)
        assert resumed.configs == undisturbed.configs[cut : cut + 4], f"resumed before trial {cut}"


def test_a_trial_that_runs_on_after_a_resume_ends_in_the_study():
    drive = Drive(begun(), bowl)
    drive.run(0, FINISHED)
    trial, config = drive.ask(1)
    drive.search.on_trial_result(trial, drive.result(trial, config, 1))
    resumed = ready(OptunaSearch(random_sampler))
    resumed.begin(list(SweepState(drive.events).trials.values()))
    assert [t.state.name for t in resumed.study.trials] == ["COMPLETE", "RUNNING"]
    resumed.on_trial_result(trial, {"loss": 0.3, "training_iteration": 2})
    resumed.on_trial_complete(trial, {"loss": 0.2, "training_iteration": 3, STOPPED: False})
    told = resumed.study.trials[1]
    assert (told.state, told.value) == (TrialState.COMPLETE, 0.2)
    assert sorted(told.intermediate_values) == [1, 2]
    assert told.params == drive.search.study.trials[1].params


def test_a_resumed_tpe_counts_running_trials_as_the_undisturbed_one_does():
    undisturbed = Drive(job_search("tpe", NUMBERS, seed=5, startup_trials=4), bowl)
    undisturbed.search.begin([])
    for number in range(6):
        undisturbed.run(number, FINISHED)
    trial, config = undisturbed.ask(6)
    undisturbed.search.on_trial_result(trial, undisturbed.result(trial, config, 1))
    resumed = job_search("tpe", NUMBERS, seed=5, startup_trials=4)
    resumed.begin(list(SweepState(undisturbed.events).trials.values()))
    assert resumed.suggest("00007") == undisturbed.search.suggest("00007")


def states_of(drive, resumed):
    resumed.begin(list(SweepState(drive.events).trials.values()))
    return [[(t.state.name, t.values, t.params) for t in search.study.trials] for search in (drive.search, resumed)]


@pytest.mark.parametrize("outcome", [FINISHED, STOP, FAIL, WAITING])
def test_a_resumed_study_says_of_each_trial_what_the_live_one_said(outcome):
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
    [told] = search.study.trials
    assert (told.state, told.values) == (TrialState.COMPLETE, [told.params["lr"] / 3, 6.0])


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
    resumed.begin(list(SweepState(undisturbed.events).trials.values()))
    assert resumed.suggest("00012") == expected


@pytest.mark.parametrize(("outcome", "last"), [(STOP, 3), (WAITING, 0)])
def test_a_multi_objective_trial_ended_by_a_time_limit_is_the_same_after_a_resume(outcome, last):
    knobs = {"second_metric": "seconds"}
    drive = Drive(job_search("multi_objective", SPACE, **knobs), two)
    drive.search.begin([])
    drive.run(0, outcome, last)
    live, again = states_of(drive, job_search("multi_objective", SPACE, **knobs))
    assert live == again
    [(state, values, _)] = live
    assert (state, values) == ("PRUNED", None)
