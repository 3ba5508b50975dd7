"""Preflight without a cluster: what is wrong with flags, task, strategy and storage is known before anything starts."""

import threading
from dataclasses import dataclass
from types import SimpleNamespace

import optuna
import pytest
import ray
from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    HyperBandScheduler,
    PopulationBasedTraining,
    ResourceChangingScheduler,
)

import raysweep
from raysweep import env
from raysweep.driver import capacity, preflight
from raysweep.history.sweep_state import SweepState, TrialRecord
from raysweep.loop.optuna_search import OptunaSearch
from raysweep.loop.random_grid_search import Variants
from raysweep.loop.searcher import FIXED
from raysweep.spec.flags import Flags, checked
from raysweep.spec.initial_points import Point
from raysweep.spec.space import describe
from raysweep.spec.sweep import knobs_of, settle
from raysweep.spec.sweep import strategy as load_strategy
from raysweep.spec.task import Task
from tests import s3

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
    flags_given, problems = checked(Flags, flags)
    return problems + preflight.check_static(flags_given, settle(flags_given, strategy, task, ()), config)


def pbt():
    return PopulationBasedTraining(hyperparam_mutations={"lr": SPACE["lr"]})


def test_the_defaults_are_valid():
    assert check(config=tune.TuneConfig(scheduler=ASHAScheduler())) == []


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("cpus_per_trial", 0.0, "`--cpus-per-trial 0`: a trial without CPU and GPU"),
        ("cpus_per_trial", 1.5, "`--cpus-per-trial 1.5`: must be a fraction of one, or a whole number: use 1 or 2"),
        ("gpus_per_trial", 2.5, "`--gpus-per-trial 2.5`: must be a fraction of one, or a whole number: use 2 or 3"),
        ("resume", "must", "`--resume must` needs `--name`"),
        ("resume", "auto", "`--resume auto` needs `--name`"),
    ],
)
def test_a_wrong_value_is_reported_with_its_flag(flag, value, message):
    [problem] = check(**{flag: value})
    assert problem.startswith(message)


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
def test_valid_values_are_not_refused(flags):
    assert check(**flags) == []


def test_a_wrong_metric_names_what_the_function_reports():
    [problem] = check(metric="acuracy")
    assert problem.startswith("`--metric acuracy`: task mine reports loss, accuracy, training_iteration, time_total_s,")


@pytest.mark.parametrize(("second", "told"), [("accuracy", 0), ("time_total_s", 0), ("speed", 1)])
def test_a_further_metric_is_one_that_is_reported(second, told):
    search = OptunaSearch(
        lambda seed: optuna.samplers.TPESampler(seed=seed), metric=["loss", second], mode=["min", "max"]
    )
    problems = check(config=tune.TuneConfig(search_alg=search), strategy="mine")
    reason = "`mine` optimises `speed` too: task mine reports loss, accuracy, training_iteration, time_total_s,"
    assert [problem.startswith(reason) for problem in problems] == [True] * told


def test_a_function_that_no_trial_can_call_is_refused_with_all_else():
    problems = check(lambda config, a, b: None, name="a b")
    assert [problem.split(":")[0] for problem in problems] == [
        "`--name a b`", "`train` of task mine also wants `a` and `b`, and is given configuration and `data`",
    ]  # fmt: skip


@pytest.mark.parametrize("metric", ["accuracy", "training_iteration", "time_total_s"])
def test_reported_metrics_and_those_that_ray_adds_are_accepted(metric):
    assert check(metric=metric) == []


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        ("raysweep:stopped", "names that begin with raysweep: are the kit's own"),
        ("half \ud800", "holds half a character"),
    ],
)
def test_what_no_report_can_have_is_not_optimised(metric, why):
    sweep = settle(Flags(), "asha", Task("mine", train, SPACE, metric, "min", 10), ())
    [problem] = preflight.check_static(Flags(), sweep, None)
    assert problem.startswith(f"`--metric {metric}`: report: ")
    assert why in problem


def reports_time(config):
    raysweep.report({"loss": 1.0, "time_total_s": 1.0, "": 2})


def test_what_a_report_would_refuse_is_refused_before_the_start():
    clock, empty = check(reports_time)
    assert clock.startswith("task mine: report: metric `time_total_s` is filled in for each report: leave it out")
    assert empty.startswith("task mine: report: a metric's name is empty")


def test_each_of_several_metrics_has_to_be_reported():
    def search(*metrics):
        return OptunaSearch(lambda seed: None, metric=list(metrics), mode=["min"] * len(metrics))

    assert check(config=tune.TuneConfig(search_alg=search("loss", "accuracy", "time_total_s"))) == []
    [problem] = check(config=tune.TuneConfig(search_alg=search("loss", "acuracy")))
    assert problem.startswith("`asha` optimises `acuracy` too: task mine reports loss, accuracy, training_iteration")


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
    assert "create it inside `train`" in problem


@pytest.mark.parametrize("scheduler", [pbt(), HyperBandScheduler()], ids=lambda scheduler: type(scheduler).__name__)
def test_a_scheduler_that_pauses_trials_needs_a_state(scheduler):
    [problem] = check(saves_nothing, tune.TuneConfig(scheduler=scheduler), "mine")
    assert "`mine` pauses trials" in problem
    assert "pass state= to raysweep.report" in problem
    assert check(train, tune.TuneConfig(scheduler=scheduler)) == []


def test_a_scheduler_that_only_stops_trials_needs_no_state():
    assert check(saves_nothing, tune.TuneConfig(scheduler=ASHAScheduler())) == []


def test_pbt_with_a_searcher_is_refused():
    search = OptunaSearch(lambda seed: optuna.samplers.RandomSampler(seed=seed))
    [problem] = check(config=tune.TuneConfig(scheduler=pbt(), search_alg=search), strategy="mine")
    assert problem.startswith("`mine` pairs PopulationBasedTraining with OptunaSearch: ")
    assert check(config=tune.TuneConfig(scheduler=pbt(), search_alg=Variants(SPACE))) == []


def test_a_scheduler_that_needs_rays_own_controller_is_refused():
    [problem] = check(config=tune.TuneConfig(scheduler=ResourceChangingScheduler()), strategy="mine")
    assert problem.startswith("`mine` has a ResourceChangingScheduler")
    assert "choose --cpus-per-trial" in problem


def test_a_population_has_at_least_two():
    [problem] = check(config=tune.TuneConfig(scheduler=pbt()), samples=1)
    assert problem == "`--samples 1`: must be at least 2, the smallest population"


@pytest.mark.parametrize("scheduler", [pbt(), HyperBandScheduler()], ids=lambda scheduler: type(scheduler).__name__)
def test_a_synchronous_scheduler_begins_all_trials(scheduler):
    [problem] = check(config=tune.TuneConfig(scheduler=scheduler), concurrency=2)
    assert problem.startswith("`--concurrency 2`: asha compares all 20 trials with each other")


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


@dataclass(frozen=True)
class Knobs:
    eta: float = 3.0
    rungs: tuple[int, ...] = (1, 3)


SPEC = {
    "strategy": "asha",
    "task": "mine",
    "seed": 0,
    "metrics": ["loss"],
    "modes": ["min"],
    "max_iterations": 10,
    "samples": 20,
    "knobs": {"eta": 3.0, "rungs": [1, 3]},
    "space": describe(SPACE),
}


def begun(strategy="asha", space=SPACE, knobs=None, config=None, **flags):
    """The problems of continuing a sweep that was begun as asha on task mine."""
    flags_given = Flags(**{"name": "old", "resume": "must", **flags})
    sweep = settle(flags_given, strategy, Task("mine", train, space, "loss", "min", 10), ())
    return preflight.check_same(sweep, SPEC, knobs or Knobs(), config)


@pytest.mark.parametrize(("resume", "problems"), [("never", 1), ("auto", 0), ("must", 0)])
def test_a_name_that_exists(resume, problems):
    events = [{"seq": n, "type": "suggest", "trial": str(n), "config": {}} for n in (1, 2, 3)]
    events += [{"seq": 4, "type": "complete", "trial": "1", "status": "finished"}]
    flags_given = Flags(name="old", storage="/runs", resume=resume)
    sweep = settle(flags_given, "asha", Task("mine", train, SPACE, "loss", "min", 10), ())
    problems_found = preflight.check_name(sweep, flags_given, SweepState(events))
    message = (
        "sweep `old` exists in /runs (3 trials, 1 finished): continue it with --resume must, or choose another --name"
    )
    assert problems_found == [message] * problems


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "started with seed 0, not 1"),
        ({"strategy": "tpe"}, "started with strategy asha, not tpe"),
        ({"metric": "accuracy"}, "started with metrics ['loss'], not ['accuracy']"),
        ({"mode": "max"}, "started with modes ['min'], not ['max']"),
        ({"max_iterations": 20}, "started with max_iterations 10, not 20: a sweep keeps its max_iterations"),
        ({"knobs": Knobs(eta=2.0)}, "started with --eta 3.0, not 2.0: a sweep keeps its --eta"),
        ({"space": {"lr": tune.uniform(0.0, 2.0)}}, "space"),
    ],
)
def test_a_resumed_sweep_keeps_its_settings(change, message):
    assert begun() == []
    [problem] = begun(**change)
    assert message in problem
    assert problem.endswith("give the same again, or another --name")


@pytest.mark.parametrize("lost", [*SPEC, None])
def test_what_a_damaged_sweep_json_lacks_is_not_compared(lost):
    spec = {key: value for key, value in SPEC.items() if key != lost} if lost else {}
    flags_given = Flags(name="old", resume="must")
    sweep = settle(flags_given, "asha", Task("mine", train, SPACE, "loss", "min", 10), ())
    assert preflight.check_same(sweep, spec, Knobs(), tune.TuneConfig(scheduler=pbt())) == []


@pytest.mark.parametrize(
    ("metric", "mode", "message"),
    [
        (["loss", "seconds"], ["min", "max"], "started with modes ['min', 'min'], not ['min', 'max']"),
        (["loss", "size"], ["min", "min"], "started with metrics ['loss', 'seconds'], not ['loss', 'size']"),
    ],
)
def test_a_resumed_sweep_keeps_its_further_metrics_and_their_directions(monkeypatch, metric, mode, message):
    monkeypatch.setitem(SPEC, "metrics", ["loss", "seconds"])
    monkeypatch.setitem(SPEC, "modes", ["min", "min"])

    def config(metric, mode):
        return tune.TuneConfig(search_alg=OptunaSearch(lambda seed: None, metric=metric, mode=mode))

    assert begun(config=config(["loss", "seconds"], ["min", "min"])) == []
    assert begun(config=None) == []  # they may be wrong, but cannot be known
    [problem] = begun(config=config(metric, mode))
    assert message in problem


@pytest.mark.parametrize(
    "flags",
    [
        {"nan": "worst"},
        {"nan": "fail"},
        {"trial_timeout": 9.0},
        {"report_timeout": 9.0},
        {"cleanup_timeout": 9.0},
        {"time_budget": 9.0},
        {"max_failures": 3},
        {"cpus_per_trial": 0.5},
        {"gpus_per_trial": 1.0},
        {"workers_per_trial": 2},
        {"concurrency": 1},
        {"samples": 40},
    ],
    ids=str,
)
def test_what_decides_only_about_the_future_may_change(flags):
    """What limits have decided is in the journal: tests/loop/test_changed_limits.py."""
    assert begun(**flags) == []


@pytest.mark.parametrize("scheduler", [pbt(), HyperBandScheduler()], ids=lambda scheduler: type(scheduler).__name__)
@pytest.mark.parametrize("samples", [10, 40])
def test_a_resumed_synchronous_sweep_keeps_its_number_of_trials(scheduler, samples):
    config = tune.TuneConfig(scheduler=scheduler)
    assert begun(config=config) == []
    [problem] = begun(config=config, samples=samples)
    assert f"started with samples 20, not {samples}: asha compares all its trials with each other" in problem
    assert begun(config=tune.TuneConfig(scheduler=ASHAScheduler()), samples=samples) == []


def test_a_knob_that_a_sweep_did_not_know_is_not_compared(monkeypatch):
    monkeypatch.setitem(SPEC, "knobs", {"eta": 3.0})
    assert begun() == []


@pytest.mark.parametrize(("resume", "problems"), [("never", 0), ("auto", 0), ("must", 1)])
def test_a_new_name(tmp_path, resume, problems):
    flags_given = Flags(name="new", storage=str(tmp_path), resume=resume)
    sweep = settle(flags_given, "asha", Task("mine", train, SPACE, "loss", "min", 10), ())
    problems_found = preflight.check_name(sweep, flags_given, None)
    assert len(problems_found) == problems
    assert all("there is no sweep `new`" in problem for problem in problems_found)


def test_the_storage_is_tried_out(tmp_path):
    assert preflight.probe(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "file"
    file.write_text("")
    [problem] = preflight.probe(str(file))
    assert "a file stands where a folder should be" in problem
    [problem] = preflight.probe("ftp://host/runs")
    assert "must be a folder or s3://bucket/prefix" in problem


@pytest.mark.parametrize("job", [True, False], ids=["in a job", "in no job"])
@pytest.mark.parametrize("own", [True, False], ids=["its cluster's", "another"])
def test_a_job_waits_for_the_store_of_its_cluster(s3_proxy, monkeypatch, job, own):
    s3.use(s3_proxy, monkeypatch)
    storage = s3_proxy.new_bucket()
    monkeypatch.setenv("RAYSWEEP_STORAGE", storage if own else "s3://raysweep")
    if job:
        monkeypatch.setenv(env.RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")
    s3_proxy.unavailable(requests=2)
    problems = preflight.probe(storage)
    assert bool(problems) is not (job and own)
    assert all("the store is not available" in problem for problem in problems)


def test_a_driver_that_resumes_a_sweep_waits_for_the_storage_with_one_message(s3_proxy, monkeypatch, capsys):
    s3.use(s3_proxy, monkeypatch)
    storage = s3_proxy.new_bucket()
    s3_proxy.unavailable(requests=3)
    preflight.wait_for_storage(storage)
    assert preflight.probe(storage) == []
    assert capsys.readouterr().out == f"the storage {storage} is unavailable: waiting up to 600 s for it\n"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    preflight.wait_for_storage(storage)  # at once: that is not temporary, and the checks will report it
    assert "no permission" in preflight.probe(storage)[0]


def test_a_store_that_stays_away_is_named(s3_proxy, monkeypatch):
    s3.use(s3_proxy, monkeypatch)
    storage = s3_proxy.new_bucket()
    monkeypatch.setenv("RAYSWEEP_STORAGE", storage)
    monkeypatch.setenv(env.RAY_JOB_CONFIG_JSON_ENV_VAR, "{}")
    monkeypatch.setattr(preflight, "OWN_STORE_S", 2.0)
    s3_proxy.unavailable()
    [problem] = preflight.probe(storage)
    assert problem.startswith(f"`--storage {storage}`: {storage}: ")


def on_cluster(monkeypatch, tmp_path, storage="s3://bucket/sweeps", **flags):
    """Preflight on a head without CPUs whose groups are CPU 4, and CPU 2 with a GPU."""
    monkeypatch.setattr(capacity, "FILE", tmp_path / "none")
    monkeypatch.setenv(env.RAYSWEEP_NODES, '[{"count": 9, "CPU": 4}, {"count": 9, "CPU": 2, "GPU": 1}]')
    head = {"NodeID": "head", "Alive": True, "Resources": {"memory": 1.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [head])
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "head"))
    flags_given = Flags(storage=storage, **flags)
    return preflight.check_cluster(
        flags_given, settle(flags_given, "asha", Task("mine", train, SPACE, "loss", "min", 10), ())
    )


@pytest.mark.parametrize(("cpus", "gpus"), [(4, 0), (2, 1), (0.5, 0.2), (0, 1)])
def test_a_share_that_fits_on_a_possible_node_is_not_refused(monkeypatch, tmp_path, cpus, gpus):
    assert on_cluster(monkeypatch, tmp_path, cpus_per_trial=cpus, gpus_per_trial=gpus) == []


def test_cpus_and_gpus_have_to_be_on_one_node(monkeypatch, tmp_path):
    [problem] = on_cluster(monkeypatch, tmp_path, cpus_per_trial=4.0, gpus_per_trial=1.0)
    assert problem == (
        "`--cpus-per-trial 4 --gpus-per-trial 1`: no node of the cluster has both: it has, or may add, nodes with"
        " CPU 4 | CPU 2, GPU 1: ask for what one of them has"
    )


def test_a_share_larger_than_every_node_is_reported_with_its_flag(monkeypatch, tmp_path):
    problems = on_cluster(monkeypatch, tmp_path, cpus_per_trial=8.0, gpus_per_trial=2.0)
    assert [problem.split(":")[0] for problem in problems] == ["`--cpus-per-trial 8`", "`--gpus-per-trial 2`"]


def test_all_workers_of_a_trial_have_to_find_room(monkeypatch, tmp_path):
    assert on_cluster(monkeypatch, tmp_path, gpus_per_trial=1.0, workers_per_trial=9) == []
    [problem] = on_cluster(monkeypatch, tmp_path, cpus_per_trial=2.0, gpus_per_trial=1.0, workers_per_trial=10)
    assert problem == (
        "`--workers-per-trial 10`: the cluster has, or may add, room for 9 workers of CPU 2, GPU 1: ask for at most"
        " that, or for less of each"
    )


def test_a_folder_is_refused_if_added_nodes_would_not_see_it(monkeypatch, tmp_path):
    [problem] = on_cluster(monkeypatch, tmp_path, storage=str(tmp_path))
    assert problem.startswith(f"`--storage {tmp_path}`: a folder of this node, which the nodes that the cluster adds")


def draw(points, samples, tried, strategy="random_search", space=SPACE):
    """The problems of a resumed sweep with these points, of whose trials some have tried earlier points."""
    task = Task("mine", train, space, "loss", "min", 10)
    flags_given = Flags(samples=samples, name="old", resume="must")
    sweep = settle(flags_given, strategy, task, tuple(Point({"lr": lr}) for lr in points))
    chosen = load_strategy(strategy)
    config = chosen.tune_config(sweep, knobs_of(chosen, {}))
    adopted = [
        TrialRecord(f"{n:05d}", {"lr": 0.5 if lr is None else lr}, memory={} if lr is None else {FIXED: {"lr": lr}})
        for n, lr in enumerate(tried)
    ]
    return preflight.check_draw(flags_given, sweep, config, adopted)


@pytest.mark.parametrize("strategy", ["random_search", "asha", "tpe"])
@pytest.mark.parametrize(
    ("points", "samples", "tried", "told"),
    [
        ([0.1, 0.2], 4, [], []),
        ([0.1, 0.2], 4, [0.1, None, None], []),
        ([0.1, 0.2], 3, [0.1, 0.2, None], []),
        (
            [0.1, 0.2],
            3,
            [0.1, None, None],
            ["`--points`: 1 are new, and 0 of the 3 trials are still to be drawn: use --samples 4"],
        ),
        (
            [0.1, 0.2, 0.3],
            4,
            [None] * 3,
            ["`--points`: 3 are new, and 1 of the 4 trials are still to be drawn: use --samples 6"],
        ),
    ],
)
def test_points_for_which_no_trial_is_left_are_refused(strategy, points, samples, tried, told):
    assert draw(points, samples, tried, strategy) == told


def test_a_space_that_cannot_be_drawn_is_refused_by_name():
    problems = draw(
        [], 4, [], space={"lr": tune.uniform(0, 1), "f": tune.sample_from(lambda spec: spec.config.missing)}
    )
    assert len(problems) == 1
    assert problems[0].startswith("`random_search` cannot draw a configuration of this space: ")
    assert "test_preflight.py, line" in problems[0]
