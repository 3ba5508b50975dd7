"""A script as a task: what its command line must say."""

import pytest

from raysweep.driver.wrap import Wrapped
from raysweep.errors import BadInput
from raysweep.spec.flags import Flags

COMMAND = ("python", "train.py", "--lr", "{lr}")


def test_it_is_a_task(tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("lr: {uniform: [0, 1]}\nname: sgd\n")
    task = Wrapped(COMMAND, space).task(Flags(metric="loss", mode="min", max_iterations=5, cleanup_timeout=3.0))
    assert (task.name, task.metric, task.mode, task.max_iterations) == ("train", "loss", "min", 5)
    assert (task.train.command, task.train.grace) == (COMMAND, 3.0)
    assert list(task.space) == ["lr", "name"]


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(BadInput) as refused:
        Wrapped(COMMAND, tmp_path / "none.yaml", ("(", "loss")).task(Flags())
    told = "\n".join(refused.value.problems)
    for word in ("`--metric`", "`--mode`", "`--max-iterations`", "`--pattern (`", "named group", "none.yaml"):
        assert word in told
