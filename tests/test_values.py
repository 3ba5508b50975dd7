"""Values of metrics and configurations: what JSON becomes of each."""

import json

import numpy as np
import pytest

from raysweep.values import flat, to_json


class NoText:
    """An object of a configuration, whose own text is broken."""

    def __repr__(self):
        raise ValueError("no text")

    def item(self):
        raise KeyError("no number")


class NoTextEither:
    def __repr__(self):
        return 3


def in_a_circle():
    one = {"name": "one"}
    one["list"] = [one]
    return one


def nested(depth):
    inside = []
    for _ in range(depth):
        inside = [inside]
    return inside


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": 1, 2: True, None: 0.5}, {"a": 1, "2": True, "null": 0.5}),
        ({("a", 1): {"b": (1, 2)}}, {"('a', 1)": {"b": [1, 2]}}),
        ({"set": {1}, "frozen": frozenset({1})}, {"set": "{1}", "frozen": "frozenset({1})"}),
        ({"f": len, "kind": int, "bytes": b"x"}, {"f": repr(len), "kind": "<class 'int'>", "bytes": "b'x'"}),
        ({"n": np.int64(3), "b": np.bool_(True), "one": np.array([2.5])}, {"n": 3, "b": True, "one": 2.5}),
        ({"many": np.array([1, 2])}, {"many": "array([1, 2])"}),
        ({"wide": np.longdouble(0.5)}, {"wide": repr(np.longdouble(0.5))}),
        ({"complex": np.complex128(1j)}, {"complex": repr(np.complex128(1j))}),
        (in_a_circle(), {"name": "one", "list": ["{'name': 'one', 'list': [{...}]}"]}),
        ({"a": NoText(), ("b",): [NoTextEither()]}, {"a": "<NoText>", "('b',)": ["<NoTextEither>"]}),
        ({NoText(): 1}, {"<NoText>": 1}),
        ({"half": "\ud800"}, {"half": "\ud800"}),
        ({"letters": {"b", "a"}}, {"letters": "{'a', 'b'}"}),  # in the same order in each process
    ],
)
def test_whatever_a_configuration_holds_is_one_line_of_json(value, written):
    line = to_json(value)
    assert "\n" not in line
    assert json.loads(line) == written


def test_what_is_nested_deeper_than_json_can_read_becomes_text():
    assert to_json(nested(5)) == "[[[[[[]]]]]]"
    assert json.loads(to_json({"deep": nested(5000)}))["deep"]


def test_flat_names_nested_parameters_as_ray_does():
    assert flat({"a": 1, "b": {"c": 2, "d": {"e": [3]}}}) == {"a": 1, "b/c": 2, "b/d/e": [3]}


def test_flat_keeps_a_tagged_value_whole():
    assert flat({"a": {"layers": {"!tuple": [1, 2]}}}) == {"a/layers": {"!tuple": [1, 2]}}
