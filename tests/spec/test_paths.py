"""A nested parameter is found by its path, in a configuration of Python's own or in its JSON form."""

import pytest

from raysweep.spec.paths import name_of, value_at


def test_a_value_is_looked_up_by_keys_that_are_nested_joined_or_text():
    assert value_at({"a": {"b/c": [{"1": 2}]}}, ("a", "b", "c", 0, 1)) == 2
    assert value_at({"a": {"x": 1}, "a/b": 2}, ("a", "b")) == 2
    for config in ({"a": 1}, {"a": {"c": 1}}, {"a": []}, {}):
        with pytest.raises(KeyError):
            value_at(config, ("a", "b"))


def test_a_name_has_slashes():
    assert name_of(("a", "b", 0)) == "a/b/0"
