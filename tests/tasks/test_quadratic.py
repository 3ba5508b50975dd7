import time

import pytest

from tasks import quadratic

BEST = {"x": 1.0, "y": -2.0, "pace": 0.5}


def test_best_place_comes_down_to_zero(session):
    reports = session.run(quadratic, BEST)

    assert [report["loss"] for report in reports] == [0.5**n for n in range(1, 11)]


def test_loss_of_a_bad_place_falls_and_stays_above_the_bowl(session):
    losses = [report["loss"] for report in session.run(quadratic, {"x": 3.0, "y": -2.0, "pace": 0.7})]

    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(4 + 0.7**10)


def test_resumed_trial_equals_uninterrupted(session):
    whole = session.fresh(quadratic, BEST)

    session.fresh(quadratic, BEST, stop_at=4)

    assert session.run(quadratic, BEST) == whole
    assert session.state["path"] == [(n, 1.0, -2.0) for n in range(1, 11)]


def test_path_proves_lineage_when_the_config_changes(session):
    session.run(quadratic, BEST, stop_at=2)
    session.run(quadratic, {**BEST, "x": 0.0}, iterations=3)

    assert session.state == {"height": 0.125, "path": [(1, 1.0, -2.0), (2, 1.0, -2.0), (3, 0.0, -2.0)]}
    assert session.reports[-1]["loss"] == 1.125


def test_delay_is_only_on_request(session):
    started = time.perf_counter()
    session.fresh(quadratic, BEST)
    undelayed = time.perf_counter() - started
    session.fresh(quadratic, {**BEST, "delay_s": 0.02}, iterations=3)

    assert undelayed < 0.05
    assert time.perf_counter() - started >= 0.06
