"""Illegal pairs: what a strategy's file or the checks before a start refuse, with their own words."""

import dataclasses

import pytest
from ray import tune

import raysweep
from raysweep.advice.advisor import advise
from raysweep.advice.case import Case, of_space
from raysweep.advice.refusals import refusals
from raysweep.advice.rules import STRATEGIES
from raysweep.errors import BadInput
from raysweep.spec.flags import Flags
from raysweep.spec.task import Task, load

QUADRATIC = load("quadratic")
MODELS = {"tpe", "tpe_asha", "tpe_hyperband", "gp", "gp_asha", "cma_es", "multi_objective"}
SYNCHRONOUS = {"hyperband", "successive_halving", "pbt", "pb2"}


def saves_nothing(config):
    for _ in raysweep.iterations():
        raysweep.report({"loss": config["x"]})


def illegal(task, **flags):
    return refusals(task, Flags(task=task.name, **flags), STRATEGIES)


def test_a_task_that_has_everything_is_legal_for_all_but_what_changes_choices():
    found = illegal(QUADRATIC)
    assert found == {}


def test_what_pauses_trials_needs_a_task_that_saves():
    found = illegal(dataclasses.replace(QUADRATIC, train=saves_nothing))
    assert found.keys() == SYNCHRONOUS
    assert all("saves nothing" in problems[0] for problems in found.values())


def test_a_model_cannot_have_a_conditional_space_and_a_grid_neither():
    space = {"x": tune.uniform(0, 1), "kind": tune.choice([{"y": tune.uniform(0, 1)}, {"y": 0}])}
    found = illegal(dataclasses.replace(QUADRATIC, space=space, mutable=("x",)))
    assert MODELS | {"grid"} <= found.keys()
    assert "choice that contains domains" in found["tpe"][0]
    case = Case(trials=30, workers=4, iterations=10, **of_space(space))
    chosen = advise(case, found)
    assert chosen.strategy == "median_stopping"
    assert chosen.rejected["tpe_asha"].startswith("illegal: `kind` is a choice that contains domains")


def test_populations_of_what_cannot_change_are_refused():
    found = illegal(dataclasses.replace(QUADRATIC, mutable=()))
    assert {"pbt", "pb2"} <= found.keys()


def test_a_wrong_task_is_refused_as_a_job_would():
    broken = Task("broken", lambda: None, QUADRATIC.space, "loss", "min", 5)
    with pytest.raises(BadInput, match="`train` of task broken has no parameter for the configuration"):
        illegal(broken)
