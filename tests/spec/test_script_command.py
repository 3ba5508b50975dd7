"""The command line of a script: its placeholders are the parameters of the space."""

import pytest
from ray import tune

from raysweep.spec.script_command import pattern_problems, problems

SPACE = {"lr": tune.uniform(0, 1), "optimizer": {"momentum": tune.uniform(0, 1), "name": "sgd"}}


def test_parameters_constants_and_the_kits_own_are_known():
    words = ["x", "--lr", "{lr:.3f}", "{optimizer/momentum}", "{checkpoint}", "{optimizer/name}", "{{own}}"]
    assert not problems(words, SPACE)


def test_one_file_has_all_parameters():
    assert not problems(["x", "--config", "{config}"], SPACE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no command"),
        ("x {lr} {optimizer/momentum} {width}", "`{width}` in the command: must be a parameter of the space"),
        ("x {lr} {optimizer/momentom}", "(did you mean `optimizer/momentum`?)"),
        ("x {lr}", "parameter `optimizer/momentum`: the command does not have it"),
        ("x {lr {optimizer/momentum}", "double each brace"),
        ("x {} {lr} {optimizer/momentum}", "`{}` in the command"),
    ],
)
def test_what_is_wrong_is_named(text, problem):
    assert problem in "\n".join(problems(text.split(), SPACE))


def test_a_parameter_may_not_have_the_name_of_another_placeholder():
    assert "rename it" in "\n".join(problems(["x", "{checkpoint}"], {"checkpoint": tune.uniform(0, 1)}))


@pytest.mark.parametrize(
    ("pattern", "problem"), [("(", "is no regular expression"), ("loss", "must have a named group")]
)
def test_a_pattern_names_its_metrics(pattern, problem):
    assert not pattern_problems(r"loss: (?P<loss>\S+)")
    assert problem in pattern_problems(pattern)[0]
