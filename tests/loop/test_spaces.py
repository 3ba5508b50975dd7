"""Every strategy of jobs/ over every kind of space: it runs, and goes on after a kill as if nothing had happened.

Six trials in the simulation, the driver killed after three have ended, resumed, and compared with the undisturbed run:
the journal has the same trials, and the training function was given the same objects.
"""

import math
from collections import OrderedDict
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import tune

from raysweep.errors import BadInput
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.simulation import Step, simulate
from raysweep.spec.space_checks import check_space, draw_problems
from raysweep.spec.sweep import Sweep, strategies
from raysweep.spec.task import Task
from tests.loop.sweeps import Killed, Mortal, config_of, draw, events_of, table


class Activation:
    def __init__(self, slope):
        self.slope = slope


def half(x):
    return x / 2


X = tune.uniform(-1.0, 1.0)  # in each space, for those strategies that change or model a number
SPACES = {
    "numbers": {"lr": tune.loguniform(1e-5, 1e-1), "width": tune.randint(1, 10), "depth": tune.lograndint(1, 64)},
    "steps": {"rate": tune.quniform(0.0, 1.0, 0.25), "units": tune.qrandint(4, 12, 4)},
    "normal": {"noise": tune.randn(0.0, 1.0)},
    "quantized normal": {"noise": tune.qrandn(0.0, 1.0, 0.5)},
    "logarithmic steps": {"rate": tune.qloguniform(0.125, 1.0, 0.125)},
    "one value": {"only": tune.choice(["x"]), "int": tune.randint(3, 4)},
    "scalars": {"mixed": tune.choice([None, True, 1, 1.5, "relu"])},
    "equal numbers": {"mixed": tune.choice([1, True, 1.0])},
    "bools": {"flag": tune.choice([True, False]), "none": tune.choice([None, 0])},
    "infinite": {"clip": tune.choice([1.0, math.inf, math.nan])},
    "tuples": {"layers": tune.choice([(64, 64), (128,), ()])},
    "lists": {"layers": tune.choice([[64, 64], [128, [1]], []])},
    "dicts": {"opt": tune.choice([{"name": "sgd", "lr": 0.1}, {1: "a", (2, 3): half}, {}])},
    "tuple or list": {"layers": tune.choice([(1, 2), [1, 2]])},
    "numpy": {"n": tune.choice([np.int64(3), np.float32(0.5), np.bool_(True)])},
    "arrays": {"kernel": tune.choice([np.zeros(2), np.ones(2), torch.ones(2)])},
    "classes": {"act": tune.choice([torch.nn.ReLU, torch.nn.GELU, Activation])},
    "functions": {"act": tune.choice([half, torch.relu, lambda x: x, lambda x: -x, partial(half, 1)])},
    "objects": {"act": tune.choice([Activation(0.1), Activation(0.2)])},
    "other values": {"v": tune.choice([Path("a"), Decimal("0.1"), b"x", frozenset({"a", "b"}), 1j])},
    "weighted": {"width": tune.choice([32, 32, 32, 64])},
    "nested": {"opt": {"lr": tune.loguniform(1e-4, 1e-1), "deep": {"act": tune.choice([half, None])}}},
    "in lists": {"layers": [tune.choice([8, 16]), tune.choice([32, 64])], "drop": (tune.uniform(0, 0.5), 0.1)},
    "slash in a key": {"opt/lr": tune.uniform(0.0, 1.0), "opt": {"wd": tune.choice([0.0, 0.1])}},
    "other keys": {3: tune.choice([1, 2]), None: 4, 0.5: {7: tune.choice(["a", "b"])}},
    "conditional": {"opt": tune.choice([{"kind": dict, "lr": X, "act": tune.choice([half])}, {"kind": list}])},
    "between domains": {"lr": tune.choice([tune.uniform(0.0, 0.1), tune.loguniform(0.1, 1.0), 7])},
    "depends": {"a": tune.randint(1, 5), "b": tune.sample_from(lambda spec: (64,) * spec.config.a)},
    "of functions": {"b": tune.sample_from(lambda _: Path("a")), "c": tune.sample_from(lambda _: np.int64(3))},
    "grid": {"act": tune.grid_search([half, None]), "lr": tune.uniform(0.0, 1.0)},
    "constants": {
        "epochs": 10, "betas": (0.9, 0.999), "sizes": [1, {"a": (2,)}], "loss": half, "array": np.zeros(2),
        "order": OrderedDict(b=1, a=2), "limit": math.inf, "make": Activation, "empty": {},
    },
}  # fmt: skip

SEARCHERS = {"tpe", "tpe_asha", "tpe_hyperband", "gp", "gp_asha", "cma_es", "multi_objective"}
# Which strategies refuse a space, and the parameter that they name.
REFUSED = {
    "normal": ({*SEARCHERS, "grid"}, "noise"),
    "quantized normal": ({*SEARCHERS, "grid"}, "noise"),
    "logarithmic steps": (SEARCHERS, "rate"),
    "conditional": ({*SEARCHERS, "grid"}, "opt"),
    "between domains": ({*SEARCHERS, "grid"}, "lr"),
    "depends": ({*SEARCHERS, "grid"}, "b"),
    "of functions": ({*SEARCHERS, "grid"}, "b"),
    "grid": (SEARCHERS, "act"),
    "other keys": ({"grid"}, "the keys of the space have several types"),
}
SAMPLES, ITERATIONS = 6, 4


def sweep_of(name, space):
    task = Task("bowl", lambda config: None, space, "loss", "min", ITERATIONS)
    return Sweep("s", name, task, space, "loss", "min", 1 if name == "grid" else SAMPLES, ITERATIONS, (), 0, "unused")


class Given:
    """What the training function was given, by trial; its loss depends on nothing else."""

    def __init__(self):
        self.configs = {}

    def __call__(self, trial, config, iteration, state):
        self.configs.setdefault(trial, []).append(config)
        loss = draw(sorted(map(str, config)), config["x"], iteration)
        return Step({"loss": loss, "time": 1.0}, 1.0, iteration)


def run(name, space, storage, given):
    sweep = sweep_of(name, space)
    knobs = {"startup_trials": 5} if name.startswith("gp") else {}  # a Gaussian process takes seconds: one is enough
    return simulate(config_of(sweep, **knobs), sweep, given, storage=storage)


def same(one, other):
    """Whether two trials were given the same: the very objects, or equal numbers and containers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(same, one, other))
    return one is other or (type(one) is type(other) and bool(one == other))


def killed_in_the_middle(name, space, events):
    """The storage of a sweep whose driver was killed after half of its trials had ended."""
    ends = [event["seq"] for event in events if event["type"] == "complete"]
    storage = Mortal(lives=[ends[len(ends) // 2 - 1]])
    with pytest.raises(Killed):
        run(name, space, storage, Given())
    storage.lives[0] = math.inf
    return storage


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("name", strategies())
def test_a_strategy_over_a_space(name, kind):
    space = {**SPACES[kind], "x": X}
    assert check_space(space) == []
    refusing, parameter = REFUSED.get(kind, ((), ""))
    if name in refusing:
        with pytest.raises(BadInput) as error:
            config_of(sweep_of(name, space))
        assert parameter in str(error.value)
        return
    undisturbed, given = MemoryStorage(), Given()
    state = run(name, space, undisturbed, given)
    assert {trial.status for trial in state.trials.values()} <= {"finished", "stopped"}
    assert all(draw_problems(space, config) == [] for configs in given.configs.values() for config in configs)

    killed = killed_in_the_middle(name, space, events_of(undisturbed))
    again = Given()
    assert table(run(name, space, killed, again)) == table(state)
    for trial, configs in again.configs.items():
        assert same(configs[-1], given.configs[trial][-1]), trial
