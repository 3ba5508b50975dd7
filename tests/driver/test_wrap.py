"""A script as a task: what its command line must say."""

from pathlib import Path

import pytest

from raysweep.driver.wrap import Wrapped
from raysweep.errors import BadInput
from raysweep.spec.flags import Flags

FLAGS = Flags(metric="loss", mode="min", max_iterations=5)


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("lr: {uniform: [0, 1]}\noptimizer: {momentum: {uniform: [0, 1]}, name: sgd}\n")
    return path


def command(text):
    return tuple(text.split())


def test_it_is_a_task(space):
    words = command("python train.py --lr {lr} --momentum {optimizer/momentum} --out {checkpoint} {optimizer/name}")
    task = Wrapped(words, space).task(FLAGS)
    assert (task.name, task.metric, task.mode, task.max_iterations) == ("train", "loss", "min", 5)
    assert task.train.command == words
    assert list(task.space) == ["lr", "optimizer"]


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
def test_what_is_wrong_with_the_command_is_named(space, text, problem):
    with pytest.raises(BadInput) as refused:
        Wrapped(command(text), space).task(FLAGS)
    assert problem in str(refused.value)


def test_one_file_has_all_parameters(space):
    Wrapped(command("x --config {config}"), space).task(FLAGS)


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(BadInput) as refused:
        Wrapped(("x",), tmp_path / "none.yaml", ("(", "loss")).task(Flags())
    told = "\n".join(refused.value.problems)
    for word in ("`--metric`", "`--mode`", "`--max-iterations`", "`--pattern (`", "named group", "none.yaml"):
        assert word in told


def test_a_parameter_may_not_have_the_name_of_another_placeholder(tmp_path):
    path = Path(tmp_path) / "space.yaml"
    path.write_text("checkpoint: {uniform: [0, 1]}")
    with pytest.raises(BadInput, match="rename it"):
        Wrapped(command("x {checkpoint}"), path).task(FLAGS)
