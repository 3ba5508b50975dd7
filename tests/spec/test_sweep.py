"""What a sweep is: flags over task, strategies by file name, knobs by field name."""

import dataclasses
import math
from pathlib import Path
from types import ModuleType

import pytest
from ray import tune

import raysweep
from raysweep.errors import BadInput
from raysweep.spec.flags import Flags
from raysweep.spec.initial_points import Point
from raysweep.spec.sweep import (
    NoKnobs,
    default_storage,
    knob_problems,
    knobs_of,
    settle,
    strategies,
    strategy,
    strategy_of,
)
from raysweep.spec.task import Task

TASK = Task("mypkg.train", lambda config: None, {"lr": tune.uniform(0, 1)}, "loss", "min", 7)


def settled(flags=None, strategy="asha", points=()):
    return settle(flags or Flags(), strategy, TASK, points)


def test_what_is_not_given_comes_from_the_task(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sweep = settled()
    assert (sweep.metric, sweep.mode, sweep.max_iterations, sweep.space) == ("loss", "min", 7, TASK.space)
    assert (sweep.strategy, sweep.samples, sweep.seed, sweep.points) == ("asha", 20, 0, ())
    assert sweep.storage == str(tmp_path / "runs")


def test_flags_go_before_the_task():
    flags = Flags(name="mine", storage="s3://runs", samples=3, max_iterations=2, metric="accuracy", mode="max", seed=9)
    sweep = settled(flags, points=(Point({"lr": 0.5}),))
    assert (sweep.name, sweep.storage, sweep.samples, sweep.max_iterations) == ("mine", "s3://runs", 3, 2)
    assert (sweep.metric, sweep.mode, sweep.seed, sweep.points) == ("accuracy", "max", 9, (Point({"lr": 0.5}),))


def test_zero_is_a_value_and_not_the_same_as_nothing():
    sweep = settled(Flags(samples=0, max_iterations=0))
    assert (sweep.samples, sweep.max_iterations) == (0, 0)


def test_one_pass_over_a_grid_is_enough():
    assert settled(strategy="grid").samples == 1
    assert settled(Flags(samples=3), strategy="grid").samples == 3


def test_a_name_is_made_of_task_strategy_and_time():
    name = settled().name
    begin, _, stamp = name.partition("-asha-")
    assert begin == "train"
    assert len(stamp) == len("20260101-120000")
    assert stamp.replace("-", "").isdigit()


def test_the_environment_names_the_default_storage(monkeypatch):
    monkeypatch.setenv("RAYSWEEP_STORAGE", "s3://bucket/runs")
    assert default_storage() == settled().storage == "s3://bucket/runs"
    assert settled(Flags(storage="here")).storage == "here"
    monkeypatch.setenv("RAYSWEEP_STORAGE", "")
    assert default_storage() == str(Path("runs").absolute())


def test_points_are_refused_by_name():
    tried, known = Point({"lr": 0.5}), Point({"lr": 0.1}, 0.9)
    sweep = settled(points=(tried, known))
    with pytest.raises(BadInput, match=r"^`asha` cannot use `--points` \(2 given\): no reason$"):
        sweep.refuse_points("no reason")
    with pytest.raises(BadInput, match=r"^`asha` cannot use known values in `--points` \(1 given\): no reason$"):
        sweep.refuse_points("no reason", values_only=True)
    settled(points=(tried,)).refuse_points("no reason", values_only=True)
    settled().refuse_points("no reason")


def test_a_strategy_is_a_file_of_jobs():
    assert {"asha", "grid", "tpe", "pbt"} <= set(strategies())
    assert "__init__" not in strategies()
    found = strategy("asha")
    assert (found.name, found.knobs.__name__) == ("asha", "Knobs")
    assert found.doc.startswith("ASHA: asynchronous successive halving.")
    assert found.tune_config.__module__ == "jobs.asha"


def test_an_unknown_strategy_is_told_with_the_nearest_and_all_of_them():
    with pytest.raises(BadInput) as error:
        strategy("ahsa")
    assert "`ahsa` is not a strategy (did you mean `asha`?)" in str(error.value)
    assert all(name in str(error.value) for name in strategies())


def test_a_strategy_without_knobs_has_none():
    module = ModuleType("jobs.mine")
    module.tune_config = lambda sweep, knobs: tune.TuneConfig()
    assert strategy_of(module, "mine").knobs is NoKnobs
    assert strategy_of(module, "mine").doc == ""


@dataclasses.dataclass(frozen=True)
class Knobs:
    grace_period: int = raysweep.knob(1, "r")
    eta: float = raysweep.knob(3.0, "eta")


def test_knobs_are_changed_by_name():
    mine = dataclasses.replace(strategy("asha"), knobs=Knobs)
    assert knobs_of(mine, {"grace_period": 4}) == Knobs(grace_period=4, eta=3.0)


def test_every_unknown_knob_is_named_with_the_nearest():
    mine = dataclasses.replace(strategy("asha"), knobs=Knobs)
    with pytest.raises(BadInput) as error:
        knobs_of(mine, {"grace_peroid": 4, "zzz": 1, "eta": 2.0})
    assert error.value.problems == (
        "`grace_peroid` is not a knob of asha (did you mean `grace_period`?)",
        "`zzz` is not a knob of asha",
    )


RANGES = {
    "asha": {"grace_period": (10, "at most 9, with --max-iterations 9")},
    "gp_asha": {"grace_period": (10, "at most 9, with --max-iterations 9")},
    "tpe_asha": {"grace_period": (10, "at most 9, with --max-iterations 9")},
    "successive_halving": {"grace_period": (10**30, "at most 9, with --max-iterations 9")},
    "median_stopping": {"grace_period": (10, "at most 9, with --max-iterations 9")},
    "pbt": {"perturbation_interval": (10, "at most 9, with --max-iterations 9")},
    "pb2": {"perturbation_interval": (10, "at most 9, with --max-iterations 9")},
    "async_hyperband": {"brackets": (4, "at most 3, with --max-iterations 9")},
    "tpe_hyperband": {"brackets": (10**30, "at most 3, with --max-iterations 9")},
}


@pytest.mark.parametrize("name", RANGES)
def test_a_knob_is_held_to_what_the_sweep_allows(name):
    [(knob, (value, told))] = RANGES[name].items()
    chosen, sweep = strategy(name), settled(Flags(max_iterations=9), name)
    flag = "--" + knob.replace("_", "-")
    assert knob_problems(sweep, knobs_of(chosen, {knob: value})) == [f"`{flag} {value}`: must be {told}"]
    highest = int(told.split(",")[0].split()[-1])
    assert knob_problems(sweep, knobs_of(chosen, {knob: highest})) == []
    assert knob_problems(settled(Flags(max_iterations=1), name), knobs_of(chosen, {})) == []


def test_the_limit_may_be_the_tasks_own():
    assert len(knob_problems(settled(), knobs_of(strategy("asha"), {"grace_period": 8}))) == 1
    assert knob_problems(settled(), knobs_of(strategy("asha"), {"grace_period": 7})) == []


ALONE = [
    ("asha", "reduction_factor", (1, 0, -3, math.nan, math.inf), (1.1, 3, 1e300)),
    ("async_hyperband", "reduction_factor", (1, 1.0000001, math.nan), (1.1, 100)),
    ("gp_asha", "reduction_factor", (1,), (2,)),
    ("tpe_asha", "reduction_factor", (1,), (2,)),
    ("tpe_hyperband", "reduction_factor", (1,), (2,)),
    ("hyperband", "reduction_factor", (1, 1.9, math.inf), (2, 100)),
    ("successive_halving", "reduction_factor", (1, 1.5, math.nan), (2, 100)),
    *((name, "grace_period", (0, -1, 1.5), (1,)) for name in ("asha", "gp_asha", "tpe_asha", "median_stopping")),
    *((name, "grace_period", (0,), (1,)) for name in ("async_hyperband", "tpe_hyperband", "successive_halving")),
    *((name, "brackets", (0, -1), (1, 2)) for name in ("async_hyperband", "tpe_hyperband")),
    *((name, "startup_trials", (0, -1), (1, 10**30)) for name in ("tpe", "gp", "cma_es", "multi_objective")),
    *((name, "startup_trials", (0,), (1,)) for name in ("tpe_asha", "tpe_hyperband", "gp_asha")),
    *((name, "quantile_fraction", (-0.1, 0.6, math.nan), (0, 0.5)) for name in ("pbt", "pb2")),
    *((name, "perturbation_interval", (0, -2), (1,)) for name in ("pbt", "pb2")),
    ("pbt", "resample_probability", (5, -0.1, math.inf), (0, 1)),
    ("tpe", "candidates", (0, 10**30), (1, 10_000)),
    ("cma_es", "population", (-3, 1, 2, 3, 10**10), (0, "0", 4, 10_000)),
    ("grid", "resolution", (-3, 1, 10**10), (0, "0", 2, 10_000)),
    ("median_stopping", "min_samples", (0, -1), (1, 10**30)),
]


def test_no_knob_is_forgotten():
    chosen = [strategy(name) for name in strategies()]
    numbers = {(s.name, f.name) for s in chosen for f in dataclasses.fields(s.knobs) if not isinstance(f.default, str)}
    assert numbers == {(name, knob) for name, knob, _, _ in ALONE}


@pytest.mark.parametrize(("name", "knob", "wrong", "right"), ALONE)
def test_a_knob_has_its_range(name, knob, wrong, right):
    for value in wrong:
        with pytest.raises(BadInput, match=f"^`--{knob.replace('_', '-')} .*`: must be "):
            knobs_of(strategy(name), {knob: value})
    for value in right:
        assert float(getattr(knobs_of(strategy(name), {knob: value}), knob)) == float(value)


def test_two_metrics_are_not_one():
    chosen, sweep = strategy("multi_objective"), settled(strategy="multi_objective")
    with pytest.raises(BadInput, match=r"^`--second-metric loss`: is the first metric, too: name another one$"):
        chosen.tune_config(sweep, knobs_of(chosen, {"second_metric": "loss"}))
