"""What code for Ray Tune asks for by itself, and what no trial can get."""

import pytest
from ray import tune

from raysweep.spec.flags import Flags
from raysweep.spec.resources import Request, request_of
from raysweep.spec.sweep import settle
from raysweep.spec.task import Task

SPACE = {"x": tune.uniform(0, 1), "cpus": 3}


def train(config):
    pass


def asking(resources):
    return tune.with_resources(lambda config: None, resources)


class Plain(tune.Trainable):
    pass


class Asking(tune.Trainable):
    @classmethod
    def default_resource_request(cls, config):
        return tune.PlacementGroupFactory([{"CPU": config["cpus"]}])


def groups(*bundles):
    return asking(tune.PlacementGroupFactory([*bundles]))


@pytest.mark.parametrize(
    ("train", "cpus", "gpus"),
    [
        (train, None, None),
        (Plain, None, None),
        (asking({"cpu": 2, "gpu": 0.5}), 2, 0.5),
        (asking({"gpu": 1}), 0, 1),
        (groups({"CPU": 2}), 2, 0),
        (asking(lambda config: tune.PlacementGroupFactory([{"CPU": config["cpus"]}])), 3, 0),
        (Asking, 3, 0),
        (tune.with_resources(Asking, {"cpu": 1}), 1, 0),
        (tune.with_parameters(asking({"cpu": 4}), data=1), 4, 0),
    ],
)
def test_it_is_read(train, cpus, gpus):
    assert request_of(train, SPACE) == Request(cpus, gpus)


FIX = "give --cpus-per-trial and --gpus-per-trial, which count instead"


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        (groups({"CPU": 1}, {"CPU": 2}), f"asks for 2 bundles, and a trial has one: {FIX}"),
        (groups({}, {"CPU": 2}), f"asks for 1 bundles, and a trial has one: {FIX}"),
        (asking({"cpu": 1, "tpu": 2}), f"asks for tpu 2, and trials are placed by CPUs and GPUs only: {FIX}"),
        (asking({"memory": 1e9}), f"asks for memory 1e+09, and trials are placed by CPUs and GPUs only: {FIX}"),
        (asking(lambda config: config["x"]), f"asks for resources by its configuration (KeyError: 'x'): {FIX}"),
    ],
)  # fmt: skip
def test_what_no_trial_can_get_is_a_problem(train, problem):
    assert request_of(train, SPACE).problem == problem


@pytest.mark.parametrize(
    ("flags", "share"),
    [
        ({}, (2, 0.5)),
        ({"cpus_per_trial": 1.0}, (1, 0.5)),
        ({"gpus_per_trial": 0.0}, (2, 0)),
        ({"cpus_per_trial": 1.0, "gpus_per_trial": 0.0}, (1, 0)),
    ],
)
def test_it_is_the_share_of_a_trial_unless_a_flag_says_another(flags, share):
    task = Task("t", asking({"cpu": 2, "gpu": 0.5}), SPACE, "loss", "min", 1)
    sweep = settle(Flags(**flags), "asha", task, ())
    assert (sweep.cpus, sweep.gpus) == share


def test_without_either_a_trial_has_one_cpu():
    sweep = settle(Flags(), "asha", Task("t", train, SPACE, "loss", "min", 1), ())
    assert (sweep.cpus, sweep.gpus) == (1, 0)
