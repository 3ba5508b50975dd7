"""Population based training changes what the task allows, and stays in the space."""

import random

import pytest
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining

from raysweep.errors import BadInput
from raysweep.spec.configuration import Codec
from raysweep.spec.mutations import bounds, inside, mutations
from raysweep.spec.space import allows, domains

SPACE = {
    "lr": tune.loguniform(1e-4, 1e-1),
    "momentum": tune.uniform(0.5, 0.99),
    "width": tune.choice([16, 32, 64]),
    "depth": tune.randint(1, 10),
    "units": tune.qrandint(4, 12, 4),
    "rate": tune.quniform(0.0, 1.0, 0.25),
    "steps": tune.lograndint(10, 1000),
    "act": tune.choice(["relu", "gelu", None]),
    "layers": tune.choice([(64, 64), (128,), [1]]),
    "head": {"dropout": tune.uniform(0.0, 0.5), "act": tune.choice([len, max])},
    "noise": tune.randn(0, 1),
    "epochs": 10,
}
ALL = (*(key for key in SPACE if key not in ("head", "epochs")), "head/dropout", "head/act")


def test_mutations_are_those_of_mutable():
    assert mutations(SPACE, ("width", "lr")) == {"lr": SPACE["lr"], "width": [16, 32, 64]}


def test_mutations_are_the_floats_where_the_task_names_none():
    assert mutations(SPACE, None) == {
        "lr": SPACE["lr"],
        "momentum": SPACE["momentum"],
        "rate": [0.0, 0.25, 0.5, 0.75, 1.0],
        "head": {"dropout": SPACE["head"]["dropout"]},
        "noise": SPACE["noise"],
    }


def test_a_choice_and_a_few_steps_have_neighbours():
    assert mutations(SPACE, ("layers", "act", "units", "head/act")) == {
        "units": [4, 8, 12],
        "act": ["relu", "gelu", None],
        "layers": [[64, 64], [128], [1]],
        "head": {"act": ["<built-in function len>", "<built-in function max>"]},
    }


@pytest.mark.parametrize("resample", [0.0, 0.25, 1.0])
def test_what_rays_pbt_explores_stays_in_the_space(resample):
    codec = Codec(SPACE)
    scheduler = PopulationBasedTraining(
        "training_iteration",
        perturbation_interval=1,
        metric="loss",
        mode="min",
        hyperparam_mutations=mutations(SPACE, ALL),
        resample_probability=resample,
        custom_explore_fn=inside(SPACE),
    )
    random.seed(3)
    trial = Trial("trial", stub=True)
    config = codec.write({**{k: d.sample() for k, d in SPACE.items() if k not in ("head", "epochs")},
                          "head": {"dropout": 0.1, "act": len}, "epochs": 10})  # fmt: skip
    seen = []
    for _ in range(300):
        trial.config = config
        config, _ = scheduler._get_new_config(trial, trial)
        restored = codec.restore(config)
        assert codec.matches(config), config
        for name, domain in domains({key: SPACE[key] for key in ALL[:-2]}).items():
            assert name in ("act", "layers", "width") or allows(domain, restored[name]), (name, restored[name])
        assert restored["layers"] in SPACE["layers"].categories
        assert restored["head"]["act"] in (len, max)
        assert type(restored["depth"]) is type(restored["units"]) is type(restored["steps"]) is int
        seen.append(restored)
    for name in ALL[:-2]:
        assert len({str(each[name]) for each in seen}) > 2, name


def test_numbers_are_put_into_their_bounds_and_on_their_steps():
    put = inside(SPACE)
    config = Codec(SPACE).write({
        "lr": 2.0, "momentum": 0.1, "width": 32, "depth": 13, "units": 2, "rate": 0.0256, "steps": 1000, "act": None,
        "layers": (128,), "head": {"dropout": 0.7, "act": max}, "noise": -3.5, "epochs": 10,
    })  # fmt: skip
    assert put(config) == {
        "lr": 0.1, "momentum": 0.5, "width": 32, "depth": 9, "units": 4, "rate": 0.0, "steps": 999, "act": None,
        "layers": [128], "head": {"dropout": 0.5, "act": "<built-in function max>"}, "noise": -3.5, "epochs": 10,
    }  # fmt: skip


@pytest.mark.parametrize(("given", "put"), [(0.3, 0.25), (0.6 * 1.2, 0.75), (-1.0, 0.0), (1.2, 1.0)])
def test_a_quantized_float_is_put_on_its_next_step(given, put):
    assert inside({"x": tune.quniform(0.0, 1.0, 0.25)})({"x": given}) == {"x": put}


def test_keys_that_were_taken_apart_are_put_together():
    space = {"a/b": tune.uniform(0, 1), "c": {"d/e": 3}, "lr": tune.uniform(0, 1)}
    assert inside(space)({"a": {"b": 2.0}, "c": {"d": {"e": 3}}, "lr": 0.5}) == {"a/b": 1.0, "c": {"d/e": 3}, "lr": 0.5}


CONDITIONAL = tune.choice([{"a": tune.uniform(0, 1)}, {}])


@pytest.mark.parametrize(
    ("space", "mutable", "told"),
    [
        (SPACE, ("lr", "lrr"), "MUTABLE names `lrr`, which has no domain in the space"),
        (SPACE, ("epochs",), "MUTABLE names `epochs`, which has no domain in the space"),
        (SPACE, (), "the task has no parameter that may change in a running trial: name some in MUTABLE"),
        (
            {"width": tune.choice([1, 2])},
            None,
            "the task has no parameter that may change in a running trial: name some",
        ),
        ({"x": tune.grid_search([1, 2])}, ("x",), "MUTABLE names `x`, which has no domain in the space"),
        (
            {"l": [tune.uniform(0, 1)]},
            ("l/0",),
            "`l/0` is in a list, where Ray's scheduler cannot change it: give it a name",
        ),
        (
            {"f": tune.sample_from(len)},
            ("f",),
            "`f` is a sample_from, which cannot be perturbed: leave it out of MUTABLE",
        ),
        ({"c": CONDITIONAL}, ("c",), "`c` is a choice that contains domains, and cannot be perturbed: leave it out"),
    ],
)
def test_what_cannot_be_mutated_is_named(space, mutable, told):
    with pytest.raises(BadInput) as error:
        mutations(space, mutable)
    assert error.value.problems[0].startswith(told)


def test_bounds_are_the_ends_of_the_floats():
    assert bounds(SPACE, ("lr", "momentum", "head/dropout")) == {
        "lr": [1e-4, 1e-1],
        "momentum": [0.5, 0.99],
        "head": {"dropout": [0.0, 0.5]},
    }


def test_bounds_name_each_parameter_that_is_no_float():
    space = {**SPACE, "a/b": tune.uniform(0, 1)}
    with pytest.raises(BadInput) as error:
        bounds(space, ("lr", "width", "depth", "noise", "a/b"))
    assert [problem.split("`")[1] for problem in error.value.problems] == ["width", "depth", "noise", "a/b"]
