"""The tables that are shipped: whole, of the tasks as they are, and found by their names."""

import pytest

from raysweep.spec.space import describe
from raysweep.spec.task import load as load_task
from raysweep.study import simulator
from raysweep.study.curves import Curves
from raysweep.study.table import SHIPPED, load

TABLES = sorted(path.stem for path in SHIPPED.glob("*.parquet"))


def test_there_are_some():
    assert "digits" in TABLES


@pytest.mark.parametrize("name", TABLES)
def test_it_has_every_iteration_of_every_configuration_and_seed(name):
    table = load(name)
    frame = table.frame
    sizes = [frame[key].nunique() for key in ("configuration", "seed", "iteration")]
    assert len(frame) == sizes[0] * sizes[1] * sizes[2]
    assert not frame.duplicated(["configuration", "seed", "iteration"]).any()
    assert sizes[0] >= 50
    assert sizes[1] >= 3
    assert frame[f"metric/{table.metric}"].between(0, 1).all()
    assert (frame["seconds"] > 0).all()
    assert (SHIPPED / f"{name}.parquet").stat().st_size < 4e6


@pytest.mark.parametrize("name", TABLES)
def test_it_is_of_the_task_as_it_is(name):
    table, task = load(name), load_task(name)
    assert describe(table.space) == describe(task.space)
    assert (table.metric, table.mode, table.max_iterations) == (task.metric, task.mode, task.max_iterations)
    assert tuple(table.about["mutable"]) == task.mutable


@pytest.mark.parametrize("name", TABLES)
def test_it_can_be_simulated_by_its_name(name):
    curves = Curves(load(name))
    assert curves.accuracy().rank > 0.6  # the look-up of other configurations keeps their order
    run = simulator.run(curves, simulator.contender("asha"), simulator.conditions(curves, 4, None, 5), 0)
    assert run.best[-1] > 0.8
