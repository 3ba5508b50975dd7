"""A configuration is written as JSON, and its objects are restored: a trial is given the very objects of its space."""

import json
import math
import subprocess
import sys
import threading
from collections import OrderedDict, namedtuple
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import tune

from raysweep.spec.configuration import Choices, Codec, filled, has_domains, parameters, tagged, untagged


class Activation:
    def __init__(self, slope):
        self.slope = slope


class Silent:
    def __repr__(self):
        raise ValueError("no text")

    def __eq__(self, other):
        raise ValueError("no comparison")

    __hash__ = None


def half(x):
    return x / 2


def twice(x):
    return x * 2


LONG = np.zeros(5000)
OTHER = np.concatenate([np.zeros(2500), np.ones(1), np.zeros(2499)])
# kind -> choices, and what the journal has of each.
OBJECTS = {
    "plain": ([None, True, 1, 1.5, "relu"], [None, True, 1, 1.5, "relu"]),
    "equal numbers": ([1, True, 1.0], [1, True, 1.0]),
    "numbers and texts": ([1, "1", 1.0, "1.0"], [1, "1", 1.0, "1.0"]),
    "infinite": ([1.0, math.inf, -math.inf, math.nan], [1.0, "inf", "-inf", "nan"]),
    "the word": ([math.inf, "inf"], ["inf #0", "inf #1"]),
    "tuples": ([(64, 64), (128,), ()], [[64, 64], [128], []]),
    "a tuple and a list": ([(1, 2), [1, 2]], ["[1, 2] #0", "[1, 2] #1"]),
    "lists": ([[1, 2], [1, [3]], []], [[1, 2], [1, [3]], []]),
    "dicts": ([{"name": "sgd", "lr": 0.1}, {1: "a"}, {}], [{"name": "sgd", "lr": 0.1}, {"1": "a"}, {}]),
    "keys": ([{1: "a"}, {"1": "a"}], ['{"1": "a"} #0', '{"1": "a"} #1']),
    "functions": ([half, twice], ["<function half>", "<function twice>"]),
    "lambdas": ([lambda x: x, lambda x: -x], ["<function <lambda>> #0", "<function <lambda>> #1"]),
    "partials": ([partial(half, 1), partial(half, 2)], None),
    "classes": ([dict, torch.nn.ReLU], ["<class 'dict'>", "<class 'torch.nn.modules.activation.ReLU'>"]),
    "instances": ([Activation(0.1), Activation(0.2)], None),
    "locks": (
        [threading.Lock(), threading.Lock()],
        ["<unlocked _thread.lock object> #0", "<unlocked _thread.lock object> #1"],
    ),
    "silent": ([Silent(), Silent()], ["<Silent> #0", "<Silent> #1"]),
    "paths": ([Path("a"), Path("b"), "a"], ["PosixPath('a')", "PosixPath('b')", "a"]),
    "types": ([torch.float32, torch.float16], ["torch.float32", "torch.float16"]),
    "numpy numbers": ([np.float32(0.5), np.int64(3), np.bool_(True)], [0.5, 3, True]),
    "numpy and python": ([np.int64(3), 3], ["3 #0", "3 #1"]),
    "arrays": ([np.zeros(2), np.ones(2)], ["array([0., 0.])", "array([1., 1.])"]),
    "long arrays": ([LONG, OTHER], None),
    "tensors": ([torch.zeros(2), torch.ones(2)], ["tensor([0., 0.])", "tensor([1., 1.])"]),
    "sets": ([{"b", "a"}, frozenset({"c", "b"})], ["{'a', 'b'}", "frozenset({'b', 'c'})"]),
    "bytes": ([b"a", b"b"], ["b'a'", "b'b'"]),
    "decimals": ([Decimal("0.1"), 0.1], ["Decimal('0.1')", 0.1]),
    "large": ([10**30, 2.0**100], [10**30, 2.0**100]),
    "half a character": (["\ud800", "a"], ["\ud800", "a"]),
    "tags": ([{"!tuple": [1]}, (1,)], [{"!tuple": [1]}, [1]]),
    "a text with a number": (["[1, 2] #0", (1, 2), [1, 2]], None),
}
DISTINCT = {kind: choices for kind, (choices, _) in OBJECTS.items() if kind != "a text with a number"}


def through_json(written):
    return json.loads(json.dumps(written, allow_nan=False))


@pytest.mark.parametrize("kind", sorted(k for k, (_, written) in OBJECTS.items() if written is not None))
def test_what_is_written_of_a_choice(kind):
    choices, written = OBJECTS[kind]
    assert [repr(each) for each in Choices(choices).written] == [repr(each) for each in written]


@pytest.mark.parametrize("make", [tune.choice, tune.grid_search])
@pytest.mark.parametrize("kind", sorted(DISTINCT))
def test_the_very_object_is_restored(kind, make):
    codec = Codec({"a": {"object": make(DISTINCT[kind])}, "x": tune.uniform(0, 1)})
    for choice in DISTINCT[kind]:
        written = through_json(codec.write({"a": {"object": choice}, "x": 0.5}))
        restored = codec.restore(written)
        assert restored["a"]["object"] is choice or type(choice) in (int, float, str, bool)
        assert type(restored["a"]["object"]) is type(choice)
        assert codec.write(restored) == written


def test_of_equal_choices_the_first_one_is_restored():
    first, second = (1, 2), tuple(range(1, 3))
    choices = Choices([first, second, (0, 1)])
    assert (choices.written, choices.firsts) == ([[1, 2], [1, 2], [0, 1]], [0, 0, 2])
    assert choices.restore([1, 2]) is first
    assert Choices([32, 32, 64]).written == [32, 32, 64]


def test_what_another_process_writes_is_the_same():
    show = "print(json.dumps([Choices(choices).written for choices in DISTINCT.values()]))"
    code = f"from tests.spec.test_configuration import *; {show}"
    written = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)]
    assert written[0] == written[1] == json.dumps([Choices(c).written for c in DISTINCT.values()]).encode() + b"\n"


def test_journals_of_earlier_versions_are_restored():
    codec = Codec(
        {"act": tune.choice([half, twice]), "clip": tune.choice([1.0, math.inf]), "size": tune.choice([(1, 2)])}
    )
    assert codec.restore({"act": "<function twice at 0x7f0123456789>", "clip": math.inf, "size": [1, 2]}) == {
        "act": twice,
        "clip": math.inf,
        "size": (1, 2),
    }


Pair = namedtuple("Pair", "a b")
LOCK = threading.Lock()
CONSTANTS = {
    "epochs": 10,
    "betas": (0.9, 0.999),
    "pair": Pair(1, torch.Size([2, 3])),
    "order": OrderedDict(b=1, a=[1, {"c": 2}]),
    "loss": half,
    "lock": LOCK,
    "array": np.zeros(2),
    "none": None,
    "limit": math.inf,
    7: {True: "x"},
}


def test_constants_are_the_very_objects_and_containers_are_new():
    codec = Codec({"x": tune.uniform(0, 1), **CONSTANTS})
    written = through_json(codec.write({"x": 0.5, **CONSTANTS}))
    one, other = codec.restore(written), codec.restore(written)
    for name in ("betas", "pair", "loss", "lock", "array", "none", "limit"):
        assert one[name] is CONSTANTS[name]
    assert one["order"] == CONSTANTS["order"]
    assert type(one["order"]) is OrderedDict
    assert one[7] == {True: "x"}
    assert list(one) == ["x", *CONSTANTS]
    one["order"]["a"][1]["c"] = None
    assert other["order"] == CONSTANTS["order"] == OrderedDict(b=1, a=[1, {"c": 2}])


NESTED = {
    "layers": [tune.choice([8, 16]), tune.choice([(32,), (64,)])],
    "pair": (tune.uniform(0, 1), "fixed"),
    "a/b": tune.randint(0, 9),
    3: {"deep": [{"x": tune.choice([half, twice])}]},
    "opt": tune.choice([
        {"kind": dict, "lr": tune.uniform(0, 1), "act": tune.choice([half, twice])},
        {"kind": list, "lr": tune.uniform(1, 2)},
        None,
    ]),
    "either": tune.choice([tune.uniform(0, 1), tune.choice([half, "x"]), 7]),
}  # fmt: skip


@pytest.mark.parametrize("opt", [{"kind": dict, "lr": 0.5, "act": twice}, {"kind": list, "lr": 1.5}, None])
@pytest.mark.parametrize("either", [0.25, half, "x", 7])
def test_domains_in_lists_tuples_and_choices(opt, either):
    codec = Codec(NESTED)
    config = {
        "layers": [16, NESTED["layers"][1].categories[1]], "pair": (0.5, "fixed"), "a/b": 3,
        3: {"deep": [{"x": twice}]}, "opt": opt, "either": either,
    }  # fmt: skip
    written = through_json(codec.write(config))
    restored = codec.restore(written)
    assert restored == config
    assert restored["layers"][1] is config["layers"][1]
    assert type(restored["pair"]) is tuple
    assert codec.matches(written)


@pytest.mark.parametrize(
    "other", [{"opt": {"kind": list, "lr": 0.5}}, {"either": 1.5}, {"layers": [8]}, {"more": 1}, {"a/b": "x"}]
)
def test_what_was_not_drawn_from_a_space_does_not_match(other):
    drawn = {
        "layers": [8, (64,)],
        "pair": (0.5, "fixed"),
        "a/b": 3,
        3: {"deep": [{"x": half}]},
        "opt": None,
        "either": 7,
    }
    assert not Codec(NESTED).matches(Codec(NESTED).write({**drawn, **other}))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (3, 3),
        ("x", "x"),
        ([1, None], [1, None]),
        ({"a": [0.5]}, {"a": [0.5]}),
        ((64, (1,)), {"!tuple": [64, {"!tuple": [1]}]}),
        (math.inf, {"!float": "inf"}),
        ({1: (2,)}, {"!dict": [[1, {"!tuple": [2]}]]}),
        ({"!tuple": 3}, {"!dict": [["!tuple", 3]]}),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.str_("a"), "a"),
    ],
)
def test_what_a_function_returned_is_written_with_tags(value, written):
    codec = Codec({"f": tune.sample_from(lambda spec: value)})
    assert codec.write({"f": value}) == {"f": written}
    restored = codec.restore(through_json({"f": written}))["f"]
    assert restored == value
    assert type(restored) is (type(value.item()) if isinstance(value, np.generic) else type(value))


@pytest.mark.parametrize("value", [Path("a"), Decimal("0.1"), {1, 2}, b"x", half, dict, np.int64, 1j, Pair(1, 2)])
def test_any_other_value_is_pickled(value):
    assert list(tagged(value)) == ["!pickle"]
    restored = untagged(through_json(tagged(value)))
    assert (restored, type(restored)) == (value, type(value))


def test_a_value_of_another_searcher_is_restored_too():
    codec = Codec({"width": tune.choice([1, 2]), "layers": [tune.choice([1]), 2], "epochs": 3})
    config = {"width": (7,), "layers": [1], "epochs": 5, "more": {"deep": (1,)}}
    assert codec.restore(through_json(codec.write(config))) == config


def test_parameters_are_found_wherever_they_are():
    assert {path: type(domain).__name__ for path, domain in parameters(NESTED).items()} == {
        ("layers", 0): "Categorical",
        ("layers", 1): "Categorical",
        ("pair", 0): "Float",
        ("a/b",): "Integer",
        (3, "deep", 0, "x"): "Categorical",
        ("opt",): "Categorical",
        ("either",): "Categorical",
    }
    assert [has_domains(value) for value in (3, [1], {"a": [tune.uniform(0, 1)]}, tune.uniform(0, 1))] == [0, 0, 1, 1]


def test_a_space_is_filled_at_any_path():
    config = filled({"a": [1, (2, 3)], "b": {"c": 4}}, {("a", 1, 0): 7, ("b", "c"): 8})
    assert config == {"a": [1, (7, 3)], "b": {"c": 8}}
