"""What a sweep is: flags over task, strategies by file name, knobs by field name."""

import dataclasses
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
    knobs_of,
    name_problems,
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


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", " ", "", "a b", "/abs", "-x"])
def test_a_name_is_one_folder_of_the_storage(name):
    [problem] = name_problems(name)
    assert problem.startswith(f"`--name {name}`: a name is one folder")


@pytest.mark.parametrize("name", [None, "a", "mnist-asha_1", "v1.2"])
def test_names_that_are_folders(name):
    assert name_problems(name) == []
