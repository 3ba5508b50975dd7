"""How optimistic a sweep was: the figures are those of the journal, read in another way."""

import numpy as np
import pytest

from raysweep.errors import BadInput
from raysweep.loop.simulation import Step
from raysweep.study.verification import evaluate, metric_of_test_part
from tests.study.finished import ITERATIONS, noisy, sweep, verification, with_test_part


def test_the_figures_are_those_of_the_trials(tmp_path):
    original = sweep(tmp_path, "first", samples=9, outcome=with_test_part)
    found = evaluate(original, verification(tmp_path, "first"))
    assert [each.own for each in found.verified] == sorted(original.table["loss"])[:3]
    for each in found.verified:
        curves = [
            [noisy("", {**each.config, "seed": seed}, i, None).metrics["loss"] for i in range(1, ITERATIONS + 1)]
            for seed in (1, 2, 3, 4)
        ]
        assert sorted(each.values) == pytest.approx(sorted(min(curve) for curve in curves))
        assert sorted(each.tests) == pytest.approx(sorted(min(curve) + 0.25 for curve in curves))
        assert each.optimism == pytest.approx(np.mean(each.values) - each.own)
    assert found.test_metric == "test_loss"
    assert "this is the number to report" in found.sentences[1]
    assert found.table["test_loss"][0] == pytest.approx(np.mean(found.verified[0].tests))


def test_a_lucky_winner_is_called_optimistic(tmp_path):
    def lucky(trial, config, iteration, state):
        draw = np.random.default_rng([int(config.get("seed", 0)), int(1e6 * abs(config["x"]))])
        return Step({"loss": float(draw.normal(1.0, 0.5))})  # nothing but noise

    original = sweep(tmp_path, "first", samples=30, outcome=lucky)
    found = evaluate(original, verification(tmp_path, "first", top=2, seeds=10, outcome=lucky))
    assert found.verified[0].optimism_interval[0] > 0
    assert "is optimistic: 10 fresh seeds" in found.sentences[0]
    assert "reports no metric of a test part" in found.sentences[-1]
    assert "`test_loss`" in found.sentences[-1]


def test_a_task_that_ignores_its_seed_is_told(tmp_path):
    def fixed(trial, config, iteration, state):
        return Step({"loss": config["x"] ** 2})

    original = sweep(tmp_path, "first", samples=4, outcome=fixed)
    found = evaluate(original, verification(tmp_path, "first", outcome=fixed))
    assert any('does not use config["seed"]' in line for line in found.sentences)
    assert found.verified[0].optimism == 0


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("val_loss", "test_loss"),
        ("validation_loss", "test_loss"),
        ("loss", "test_loss"),
        ("test_loss", None),
        ("f1", None),
    ],
)
def test_the_test_metric_is_found_by_its_name(metric, expected):
    assert metric_of_test_part(metric, {"val_loss", "test_loss", "f1"}) == expected


def test_what_cannot_be_verified_is_refused(tmp_path):
    original = sweep(tmp_path, "first", samples=2)
    with pytest.raises(BadInput, match="`--test-metric best`: no trial reports it"):
        evaluate(original, verification(tmp_path, "first"), "best")


def test_one_fresh_seed_says_little(tmp_path):
    found = evaluate(sweep(tmp_path, "first", samples=4), verification(tmp_path, "first", seeds=1))
    assert found.sentences[0].endswith("which says little: give --seeds 5 or more")


def test_the_verification_of_another_sweep_is_refused(tmp_path):
    sweep(tmp_path, "other", samples=4, seed=9)
    with pytest.raises(BadInput, match="has no configuration of `first`"):
        evaluate(sweep(tmp_path, "first", samples=4), verification(tmp_path, "other"))
