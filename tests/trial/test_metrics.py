"""What may be reported: scalars of all kinds become Python's own; what cannot be stored is refused by name."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from raysweep.trial.metrics import filled_in, kept, plain_metrics


class Level(IntEnum):
    HIGH = 3


class Phase(StrEnum):
    WARM = "warm"


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int64(3), 3),
        (np.uint64(2**63), 2**63),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.array(2.5), 2.5),
        (np.array([2.5]), 2.5),
        (torch.tensor(2.5), 2.5),
        (torch.tensor([3]), 3),
        (torch.tensor(0.5, dtype=torch.bfloat16, requires_grad=True), 0.5),
        (Decimal("0.25"), 0.25),
        (Decimal("NaN"), math.nan),
        (Decimal("-Infinity"), -math.inf),
        (np.float16(0.5), 0.5),
        (np.array([True]), True),
        (torch.tensor(True), True),
        (torch.tensor([0.5], dtype=torch.float16), 0.5),
        (-0.0, -0.0),
        (np.float32("nan"), math.nan),
        (Fraction(1, 4), 0.25),
        (Level.HIGH, 3),
        (Phase.WARM, "warm"),
        (2**60, 2**60),
        (math.inf, math.inf),
        ("text", "text"),
        ("", ""),
        (True, True),
    ],
    ids=repr,
)
def test_scalars_become_plain(given, plain):
    got = plain_metrics({"metric": given})["metric"]
    assert type(got) is type(plain)
    assert json.dumps(got) == json.dumps(plain)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([1.0], id="list"),
        pytest.param(None, id="None"),
        pytest.param({"a": 1}, id="dict"),
        pytest.param(b"1", id="bytes"),
        pytest.param(np.array([1.0, 2.0]), id="array"),
        pytest.param(torch.tensor([1.0, 2.0]), id="tensor"),
        pytest.param(np.datetime64("2026-01-01"), id="date"),
        pytest.param(datetime(2026, 1, 1, tzinfo=UTC), id="datetime"),
        pytest.param(pd.NA, id="NA"),
        pytest.param(pd.NaT, id="NaT"),
        pytest.param(SimpleNamespace(item=lambda: None), id="item"),
    ],
)
def test_a_metric_of_a_wrong_type_is_named(wrong):
    with pytest.raises(TypeError, match=r"^report: metric `curve` is a .*: give a number or a text$"):
        plain_metrics({"loss": 1.0, "curve": wrong})


@pytest.mark.parametrize("wrong", [1j, np.complex64(1j), torch.tensor(1j)], ids=lambda value: type(value).__name__)
def test_a_complex_number_is_none(wrong):
    with pytest.raises(TypeError, match=r"^report: metric `phase` is a complex: give a number or a text$"):
        plain_metrics({"phase": wrong})


@pytest.mark.parametrize(
    "wrong",
    [10**400, Fraction(10**400, 3), Decimal("sNaN"), Decimal("-1e400"), np.longdouble("1e400")],
    ids=["integer", "fraction", "signalling nan", "decimal", "longdouble"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_number_that_no_float_can_hold_is_named(wrong):
    with pytest.raises(ValueError, match=r"^report: metric `steps` cannot be stored as a float: "):
        plain_metrics({"steps": wrong})


@pytest.mark.parametrize("metrics", [{"word": "half \ud800"}, {"half \ud800": 1.0}], ids=["value", "name"])
def test_half_a_character_is_refused(metrics):
    with pytest.raises(ValueError, match=r"^report: metric '(word|half \\ud800)' holds half a character"):
        plain_metrics(metrics)


@pytest.mark.parametrize("name", [1, None, ("val", "loss"), b"loss"])
def test_a_name_is_a_text(name):
    with pytest.raises(TypeError, match=r" is a (int|NoneType|tuple|bytes): a metric's name must be a text$"):
        plain_metrics({name: 1.0})


@pytest.mark.parametrize("name", ["training_iteration", "time_total_s", "time_this_iter_s"])
def test_what_each_report_has_already_is_not_reported(name):
    with pytest.raises(ValueError, match=rf"^report: metric `{name}` is filled in for each report"):
        plain_metrics({name: 1})


@pytest.mark.parametrize("name", ["", "raysweep:stopped"])
def test_an_empty_name_and_the_kits_own_are_not_reported(name):
    with pytest.raises(ValueError, match=r"^report: (a metric's name is empty|metric `raysweep:stopped`: names that)"):
        plain_metrics({name: 1})


def test_the_total_is_the_sum_of_what_was_reported_also_after_a_restart():
    """A run that goes on from a checkpoint knows of the total only what was reported with it."""
    spent, took = 0.0, [0.00012345678, 1 / 3, 2e-6, 1e5 / 7]
    for iteration, seconds in enumerate(took, start=1):
        got = filled_in({"loss": 1.0}, iteration, seconds, spent)
        assert got == {"loss": 1.0, "time_this_iter_s": round(seconds, 6), "time_total_s": got["time_total_s"]}
        assert got["time_total_s"] == json.loads(json.dumps(got))["time_total_s"] == round(spent + seconds, 6)
        spent = got["time_total_s"]
    assert spent == pytest.approx(sum(took), abs=4e-6)


def test_the_iteration_is_a_metric_only_if_it_is_optimised():
    assert "training_iteration" not in filled_in({}, 3, 1.0, 0.0, ("loss",))
    assert filled_in({}, 3, 1.0, 0.0, ("training_iteration",))["training_iteration"] == 3


def test_a_text_is_no_value_of_what_is_optimised():
    assert plain_metrics({"loss": 1.0, "phase": "warm-up"}, ("loss",)) == {"loss": 1.0, "phase": "warm-up"}
    with pytest.raises(TypeError, match=r"^report: metric `loss` is the text 'low', and it is optimised: give"):
        plain_metrics({"loss": "low"}, ("accuracy", "loss"))


@pytest.mark.parametrize("metrics", [1.0, None, [("loss", 1.0)]])
def test_metrics_are_a_dictionary(metrics):
    with pytest.raises(TypeError, match=r"^report: the metrics are a .*: give a dictionary, name -> value$"):
        plain_metrics(metrics)


def test_the_metrics_of_the_function_are_left_as_they_are():
    given = {"loss": np.float32(0.5)}
    plain_metrics(given)["loss"] = 1
    assert given == {"loss": np.float32(0.5)}


@pytest.mark.parametrize(
    ("given", "plain", "left_out"),
    [
        ({"loss": 1.0, "epoch": np.int64(2)}, {"loss": 1.0, "epoch": 2}, []),
        ({"eval": {"acc": 0.5, "by": {"class": {3: 1}}}}, {"eval/acc": 0.5, "eval/by/class/3": 1}, []),
        ({"a": [1], "b": None, "c": object, "d": np.zeros(3), "": 1}, {}, ["a", "b", "c", "d", ""]),
        ({"eval": {"curve": [1]}, "raysweep:x": 1}, {}, ["eval/curve", "raysweep:x"]),
        ({"training_iteration": 7, "time_total_s": 1.0, "done": True, "should_checkpoint": True, "x": 1}, {"x": 1}, []),
        ({3: 1.0}, {"3": 1.0}, []),
        ({"empty": {}}, {}, []),
    ],
)
def test_of_a_report_to_ray_tune_all_is_kept_that_can_be(given, plain, left_out):
    assert kept(given) == (plain, left_out)


@pytest.mark.parametrize(("given", "told"), [([1], "are a list"), ({"loss": "high"}, "it is optimised: give a number")])
def test_what_is_optimised_must_be_a_number_there_too(given, told):
    with pytest.raises(TypeError, match=told):
        kept(given, ["loss"])
