"""The exceptions: the tree that the docstring draws is the tree of the classes."""

import re

import pytest

from raysweep import errors
from raysweep.errors import BadInput, RaysweepError


def drawn():
    """(name, parent, exit code or None) of every line of the docstring's tree."""
    parents: list[str] = []
    for indent, name, rest in re.findall(r"^([│├└─ ]*)([A-Z]\w+)(.*)$", errors.__doc__, re.MULTILINE):
        if indent or name == "RaysweepError":
            depth = len(indent) // 4
            code = re.search(r"exit (\d)$", rest)
            parents[depth:] = [name]
            yield name, parents[depth - 1] if depth else "Exception", int(code[1]) if code else None


def classes():
    return {c for c in vars(errors).values() if isinstance(c, type) and c.__module__ == errors.__name__}


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    real = {(c.__name__, c.__bases__[0].__name__) for c in classes()}
    assert {(name, parent) for name, parent, _ in drawn()} == real


def test_exit_codes_are_those_of_the_docstring():
    told = {name: code for name, _, code in drawn() if code is not None}
    assert len(told) == 4
    assert {name: getattr(errors, name).exit_code for name in told} == told


def test_bad_input_keeps_each_problem_and_shows_one_a_line():
    error = BadInput("`--a 1`: no", "`--b 2`: no")
    assert error.problems == ("`--a 1`: no", "`--b 2`: no")
    assert str(error).splitlines() == ["`--a 1`: no", "`--b 2`: no"]


@pytest.mark.parametrize("error", sorted(classes(), key=lambda c: c.__name__))
def test_one_except_clause_catches_everything_raised_on_purpose(error):
    assert issubclass(error, RaysweepError)
    assert error.exit_code in (1, 2)
