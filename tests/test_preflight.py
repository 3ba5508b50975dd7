"""Preflight without a cluster: what is wrong with flags, task, strategy and storage is known before anything starts."""

import json
import math
import threading

import optuna
import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler, PopulationBasedTraining

import raysweep
from raysweep import preflight
from raysweep.flags import Flags
from raysweep.optuna_search import OptunaSearch
from raysweep.space import describe
from raysweep.state import SweepState
from raysweep.storage import FolderStorage
from raysweep.sweep import settle
from raysweep.task import Task
from raysweep.variants import Variants

SPACE = {"lr": tune.uniform(0.0, 1.0)}


def train(config):
    raysweep.report({"loss": 1.0, "accuracy": 0.5}, state={"epoch": 1})


def saves_nothing(config):
    raysweep.report({"loss": 1.0})


def unreadable(config):
    metrics = {"loss": 1.0}
    raysweep.report(metrics)


def check(function=train, config=None, strategy="asha", **flags):
    task = Task("mine", function, SPACE, "loss", "min", 10)
    asked = Flags(**flags)
    return preflight.check_static(asked, settle(asked, strategy, task, ()), config)


def pbt():
    return PopulationBasedTraining(hyperparam_mutations={"lr": SPACE["lr"]})


def test_nothing_is_wrong_with_the_defaults():
    assert check(config=tune.TuneConfig(scheduler=ASHAScheduler())) == []


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("samples", 0, "`--samples 0`: at least 1"),
        ("samples", -3, "`--samples -3`: at least 1"),
        ("max_iterations", 0, "`--max-iterations 0`: at least 1"),
        ("concurrency", 0, "`--concurrency 0`: at least 1"),
        ("max_failures", -1, "`--max-failures -1`: at least 0"),
        ("cpus_per_trial", -1.0, "`--cpus-per-trial -1.0`: at least 0"),
        ("gpus_per_trial", -0.5, "`--gpus-per-trial -0.5`: at least 0"),
        ("trial_timeout", 0.0, "`--trial-timeout 0.0`: more than 0 seconds"),
        ("time_budget", -5.0, "`--time-budget -5.0`: more than 0 seconds"),
        ("cpus_per_trial", 0.0, "`--cpus-per-trial 0`: a trial without CPU and GPU"),
        ("cpus_per_trial", 1.5, "`--cpus-per-trial 1.5`: Ray gives a fraction of one, or whole ones: take 1 or 2"),
        ("gpus_per_trial", 2.5, "`--gpus-per-trial 2.5`: Ray gives a fraction of one, or whole ones: take 2 or 3"),
        ("mode", "best", "`--mode best`: max or min"),
        ("cpus_per_trial", math.inf, "`--cpus-per-trial inf`"),
        ("gpus_per_trial", math.nan, "`--gpus-per-trial nan`"),
        ("time_budget", math.nan, "`--time-budget nan`"),
        ("seed", -1, "`--seed -1`"),
        ("seed", 2**32, "`--seed 4294967296`"),
        ("resume", "must", "`--resume must` needs `--name`"),
        ("resume", "auto", "`--resume auto` needs `--name`"),
    ],
)
def test_a_wrong_value_is_told_with_its_flag(flag, value, told):
    [problem] = check(**{flag: value})
    assert problem.startswith(told)


@pytest.mark.parametrize(
    "flags",
    [
        {"cpus_per_trial": 0.0, "gpus_per_trial": 0.5},
        {"cpus_per_trial": 0.25},
        {"cpus_per_trial": 3.0, "gpus_per_trial": 2.0},
        {"trial_timeout": 0.5, "time_budget": 1.0, "max_failures": 3, "concurrency": 1},
        {"name": "mnist-asha_1", "resume": "must"},
        {"seed": 2**32 - 1},
    ],
)
def test_what_is_right_is_not_refused(flags):
    assert check(**flags) == []


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", " ", "", "a b", "/abs", "-x"])
def test_a_name_is_one_folder_of_the_storage(name):
    [problem] = preflight.name_problems(name)
    assert problem.startswith(f"`--name {name}`: a name is one folder")


@pytest.mark.parametrize("name", [None, "a", "mnist-asha_1", "v1.2"])
def test_names_that_are_folders(name):
    assert preflight.name_problems(name) == []


def test_a_wrong_metric_names_what_the_function_reports():
    [problem] = check(metric="acuracy")
    assert problem.startswith("`--metric acuracy`: task mine reports loss, accuracy, training_iteration, time_total_s,")


@pytest.mark.parametrize("metric", ["accuracy", "training_iteration", "time_total_s"])
def test_what_is_reported_and_what_ray_adds_are_metrics(metric):
    assert check(metric=metric) == []


def test_a_metric_that_cannot_be_read_is_not_refused():
    assert check(unreadable, metric="anything") == []


def test_a_function_that_cannot_be_pickled_names_what_it_captured():
    the_lock = threading.Lock()

    def captures(config):
        with the_lock:
            raysweep.report({"loss": 1.0})

    [problem] = check(captures)
    assert problem.startswith("`train` of task mine cannot be sent to a worker: ")
    assert "`the_lock`" in problem
    assert "make it inside `train`" in problem


@pytest.mark.parametrize("scheduler", [pbt(), HyperBandScheduler()], ids=lambda scheduler: type(scheduler).__name__)
def test_a_scheduler_that_pauses_trials_needs_a_state(scheduler):
    [problem] = check(saves_nothing, tune.TuneConfig(scheduler=scheduler), "mine")
    assert "`mine` pauses trials" in problem
    assert "pass state= to raysweep.report" in problem
    assert check(train, tune.TuneConfig(scheduler=scheduler)) == []


def test_a_scheduler_that_only_stops_trials_needs_no_state():
    assert check(saves_nothing, tune.TuneConfig(scheduler=ASHAScheduler())) == []


def test_pbt_and_a_searcher_are_no_pair():
    search = OptunaSearch(lambda seed: optuna.samplers.RandomSampler(seed=seed))
    [problem] = check(config=tune.TuneConfig(scheduler=pbt(), search_alg=search), strategy="mine")
    assert problem.startswith("`mine` pairs PopulationBasedTraining with OptunaSearch: ")
    assert check(config=tune.TuneConfig(scheduler=pbt(), search_alg=Variants(SPACE))) == []


def test_a_population_has_at_least_two():
    [problem] = check(config=tune.TuneConfig(scheduler=pbt()), samples=1)
    assert problem == "`--samples 1`: a population has at least 2 trials"


@pytest.mark.parametrize("scheduler", [pbt(), HyperBandScheduler()], ids=lambda scheduler: type(scheduler).__name__)
def test_a_synchronous_scheduler_begins_all_trials(scheduler):
    [problem] = check(config=tune.TuneConfig(scheduler=scheduler), concurrency=2)
    assert problem.startswith("`--concurrency 2`: asha decides over all 20 trials together")


def test_everything_wrong_is_told_at_once():
    the_lock = threading.Lock()

    def captures(config):
        with the_lock:
            raysweep.report({"loss": 1.0})

    problems = check(
        captures,
        tune.TuneConfig(scheduler=pbt()),
        samples=1,
        max_iterations=0,
        metric="f1",
        resume="must",
        cpus_per_trial=0.0,
        concurrency=2,
    )
    for part in (
        "--max-iterations 0",
        "--metric f1",
        "the_lock",
        "--resume must",
        "--cpus-per-trial 0",
        "--samples 1",
        "--concurrency 2",
        "pass state=",
    ):
        assert len([problem for problem in problems if part in problem]) == 1, part
    assert len(problems) == 8


def begun(tmp_path, strategy="asha", **flags):
    """The problems of asking for a sweep that stands in the storage, begun as asha on task mine."""
    task = Task("mine", train, SPACE, "loss", "min", 10)
    spec = {
        "strategy": "asha",
        "task": "mine",
        "seed": 0,
        "metrics": ["loss"],
        "modes": ["min"],
        "space": describe(SPACE),
    }
    FolderStorage(str(tmp_path)).put("old/sweep.json", json.dumps(spec).encode())
    events = [{"seq": n, "type": "suggest", "trial": str(n), "config": {}} for n in (1, 2, 3)]
    events += [{"seq": 4, "type": "complete", "trial": "1", "status": "finished"}]
    asked = Flags(**{"name": "old", "storage": str(tmp_path), "resume": "must", **flags})
    return preflight.check_storage(settle(asked, strategy, task, ()), asked, SweepState(events))


def test_a_sweep_that_exists_is_not_mixed_with_another(tmp_path):
    [problem] = begun(tmp_path, resume="never")
    assert problem == (
        f"sweep `old` exists in {tmp_path} (3 trials, 1 finished):"
        " continue it with --resume must, or choose another --name"
    )


@pytest.mark.parametrize("resume", ["auto", "must"])
def test_a_sweep_that_exists_can_be_resumed(tmp_path, resume):
    assert begun(tmp_path, resume=resume) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "begun with seed 0, not 1"),
        ({"strategy": "tpe"}, "begun with strategy asha, not tpe"),
        ({"metric": "accuracy"}, "begun with metrics ['loss'], not ['accuracy']"),
        ({"mode": "max"}, "begun with modes ['min'], not ['max']"),
    ],
)
def test_a_resumed_sweep_keeps_what_it_was_begun_with(tmp_path, change, told):
    [problem] = begun(tmp_path, **change)
    assert told in problem


def test_a_resumed_sweep_keeps_its_space(tmp_path):
    assert begun(tmp_path) == []
    task = Task("mine", train, {"lr": tune.uniform(0.0, 2.0)}, "loss", "min", 10)
    asked = Flags(name="old", storage=str(tmp_path), resume="must")
    [problem] = preflight.check_storage(settle(asked, "asha", task, ()), asked, SweepState())
    assert "space" in problem


@pytest.mark.parametrize(("resume", "problems"), [("never", 0), ("auto", 0), ("must", 1)])
def test_a_new_name(tmp_path, resume, problems):
    asked = Flags(name="new", storage=str(tmp_path), resume=resume)
    sweep = settle(asked, "asha", Task("mine", train, SPACE, "loss", "min", 10), ())
    found = preflight.check_storage(sweep, asked, None)
    assert len(found) == problems
    assert all("there is no sweep `new`" in problem for problem in found)


def test_the_storage_is_tried_out(tmp_path):
    assert preflight.probe(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "file"
    file.write_text("")
    [problem] = preflight.probe(str(file))
    assert "a file stands where a folder should be" in problem
    [problem] = preflight.probe("ftp://host/runs")
    assert "it must be a folder or s3://bucket/prefix" in problem
