"""`raysweep.run`, as a notebook calls it."""

import os
import random

import numpy as np
import pytest
from ray import tune

import raysweep
from raysweep.spec.task import Task

SPACE = {"x": tune.uniform(0.0, 1.0)}


def train(config):
    for _ in raysweep.iterations():
        raysweep.report({"loss": config["x"]}, state={})


def process(config):
    raysweep.report({"loss": config["x"], "process": os.getpid()})


def threads(config):
    import torch

    raysweep.report({"loss": config["x"], "threads": torch.get_num_threads()})


ASKED = {"metric": "loss", "mode": "min", "samples": 2, "max_iterations": 2}


def test_it_takes_the_tutorials_names(private_ray, storage):
    first = {"x": 0.25}
    settings = {"cpus_per_trial": 1, "gpus_per_trial": 0, "points_to_evaluate": [first]}
    results = raysweep.run("asha", objective=train, config=SPACE, storage=storage, name="names", **ASKED, **settings)
    assert results.state.trials["00000"].config == first
    same = raysweep.run("asha", train, SPACE, points=[first], storage=storage, name="same", **ASKED)
    assert list(same.table["config/x"]) == list(results.table["config/x"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": train, "objective": train, "space": SPACE}, "`task` and `objective` are the same argument"),
        ({"task": train, "space": SPACE, "config": SPACE}, "`space` and `config` are the same argument"),
        ({"task": train, "space": SPACE, "points": [], "points_to_evaluate": []}, "`points` and `points_to_evaluate`"),
        ({"space": SPACE}, "`task` is missing"),
        ({"task": train}, "`space` must be given with a training function"),
        (
            {"task": train, "space": SPACE, "sampels": 3},
            "`sampels` is not an argument of run (did you mean `samples`?)",
        ),
    ],
)
def test_wrong_arguments_are_reported(arguments, message, storage):
    with pytest.raises(raysweep.BadInput) as caught:
        raysweep.run("asha", storage=storage, **ASKED, **arguments)
    assert message in str(caught.value)


def test_a_sweep_does_not_change_a_notebooks_random_numbers(private_ray, storage):
    def drawn():
        return random.random(), np.random.random()

    random.seed(1)
    np.random.seed(1)
    undisturbed = [drawn(), drawn()]
    random.seed(1)
    np.random.seed(1)
    first = drawn()
    raysweep.run("pbt", train, SPACE, storage=storage, name="draws", **ASKED)
    assert [first, drawn()] == undisturbed


@pytest.mark.parametrize("reuse", [True, False])
def test_a_task_may_require_a_process_for_each_trial(reuse, private_ray, storage):
    settings = ASKED | {"samples": 3, "concurrency": 1, "max_iterations": 1}
    results = raysweep.run(
        "random_search", process, SPACE, reuse_actors=reuse, storage=storage, name="reuse", **settings
    )
    assert results.table["process"].nunique() == (1 if reuse else 3)


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_trial_has_as_many_threads_as_cpus(cpus, private_ray, storage):
    if cpus > (os.cpu_count() or 1):
        pytest.skip("one CPU only")
    settings = ASKED | {"samples": 1, "max_iterations": 1, "cpus_per_trial": cpus}
    results = raysweep.run("random_search", threads, SPACE, storage=storage, name=f"threads-{cpus}", **settings)
    assert list(results.table["threads"]) == [cpus]


def test_a_dry_run_starts_nothing(storage):
    with pytest.raises(raysweep.BadInput, match="nothing was started"):
        raysweep.run("asha", Task("mine", train, SPACE, "loss", "min", 2), storage=storage, dry_run=True)
