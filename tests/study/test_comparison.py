"""Comparisons: the figures are those of a calculation by hand, and a strategy rarely wins against itself."""

import itertools
import math

import numpy as np
import pytest

from raysweep.study import simulator
from raysweep.study.comparison import CONFIDENCE, Budget, compare, fewest_seeds, interval
from raysweep.study.curves import Curves
from raysweep.study.trajectory import of_reports
from tests.study.finished import recorded


def runs(values, mode="max"):
    """One sweep of a single report for each value."""
    return {seed: of_reports(seed, mode, [1.0], [value]) for seed, value in enumerate(values)}


def test_the_figures_of_a_pair_are_those_of_a_calculation_by_hand():
    one, other = [0.9, 0.8, 0.85, 0.7], [0.8, 0.85, 0.85, 0.6]
    found = compare({"one": runs(one), "other": runs(other)}, "acc", "max")
    pair, differences = found.pairs[0], np.subtract(one, other)
    assert (pair.one, pair.other, pair.seeds) == ("one", "other", 4)
    assert pair.difference == pytest.approx(differences.mean())
    assert pair.improvement == (2 + 0.5) / 4
    signs = np.array(list(itertools.product([1, -1], repeat=4)))
    as_far = np.abs((signs * differences).mean(axis=1)) >= abs(differences.mean()) - 1e-12
    assert pair.p_value == pytest.approx(as_far.mean())
    assert found.groups[0].mean == pytest.approx(np.mean(one))
    low, high = found.groups[0].interval
    resampled = np.random.default_rng(1).choice(one, (20_000, 4)).mean(axis=1)
    assert (low, high) == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.01)


def test_of_a_minimum_the_smaller_one_is_better():
    found = compare({"high": runs([3.0] * 9, "min"), "low": runs(np.linspace(1, 2, 9), "min")}, "loss", "min")
    assert [group.label for group in found.groups] == ["low", "high"]
    assert found.pairs[0].difference == pytest.approx(1.5)
    assert found.pairs[0].winner == "low"
    assert found.sentence.startswith("low beats high by +1.5 loss [")


def test_a_clear_difference_is_a_win_and_the_sentence_says_so():
    base = np.random.default_rng(0).normal(0.9, 0.01, 10)
    found = compare({"random": runs(base), "better": runs(base + 0.02 + 0.001 * np.arange(10))}, "acc", "max")
    assert found.pairs[0].winner == "better"
    assert found.sentence.startswith("better beats random by +0.0245 acc [0.0")
    assert "10 shared seeds" in found.sentence


def test_what_may_be_luck_is_no_win_and_the_sentence_says_how_many_more_seeds_it_would_take():
    differences = np.array([0.03, -0.02, 0.01, 0.02, -0.01, 0.03, -0.02, 0.01, 0.02, -0.01])
    found = compare({"a": runs(0.9 + differences), "b": runs([0.9] * 10)}, "acc", "max")
    pair = found.pairs[0]
    assert pair.winner is None
    # With so many seeds, a paired t-test of such differences finds four fifths of the time what is there.
    assert pair.more_seeds == pytest.approx(101, abs=8)
    draws = np.random.default_rng(0).normal(differences.mean(), differences.std(ddof=1), (4000, 10 + pair.more_seeds))
    from scipy import stats

    power = (stats.ttest_1samp(draws, 0, axis=1).pvalue <= 1 - CONFIDENCE).mean()
    assert power == pytest.approx(0.8, abs=0.03)
    assert found.sentence.startswith("No win is shown of a over b (+0.006 acc [")
    assert f"{pair.more_seeds} more seeds would show" in found.sentence


def test_too_few_seeds_are_never_a_win():
    fewest = fewest_seeds(1 - CONFIDENCE)
    clear = [
        compare({"a": runs([1.0 + i for i in range(n)]), "b": runs([0.0] * n)}, "acc", "max")
        for n in (fewest - 1, fewest)
    ]
    assert [found.pairs[0].winner for found in clear] == [None, "a"]
    assert clear[0].pairs[0].more_seeds == 1
    one = compare({"a": runs([1.0]), "b": runs([0.0])}, "acc", "max")
    assert "one run each says nothing" in one.sentence
    assert math.isnan(one.pairs[0].interval[0])


def test_no_difference_at_all_is_no_win():
    found = compare({"a": runs([0.5] * 10), "b": runs([0.5] * 10)}, "acc", "max")
    assert found.pairs[0].winner is None
    assert "there is no difference" in found.sentence
    assert found.groups[0].interval == (0.5, 0.5)


def test_only_seeds_that_both_have_are_paired():
    of_one = {seed: run for seed, run in runs([0.1, 0.2, 0.3, 0.9]).items() if seed != 0}
    pair = compare({"a": of_one, "b": runs([0.5, 0.1, 0.1])}, "acc", "max").pairs[0]
    assert pair.seeds == 2
    assert pair.difference == pytest.approx((0.1 + 0.2) / 2)


def test_several_comparisons_are_corrected_by_holm():
    shift = np.random.default_rng(0).normal(0, 1, (3, 12))
    groups = {"a": runs(shift[0] + 1.0), "b": runs(shift[1] + 0.4), "c": runs(shift[2])}
    together = compare(groups, "acc", "max").pairs
    alone = {}
    for one, other in itertools.combinations(groups, 2):
        pair = compare({one: groups[one], other: groups[other]}, "acc", "max").pairs[0]
        alone[frozenset((one, other))] = pair.p_value
    ordered = sorted(alone, key=alone.__getitem__)
    expected, highest = {}, 0.0
    for rank, key in enumerate(ordered):
        highest = max(highest, min(1.0, (3 - rank) * alone[key]))
        expected[key] = highest
    assert {frozenset((p.one, p.other)): pytest.approx(p.p_value) for p in together} == expected


def test_sweeps_are_compared_at_the_budget_of_the_shortest():
    long = {0: of_reports(0, "max", [1.0, 2.0, 3.0], [0.1, 0.2, 0.9]), 1: of_reports(1, "max", [1.0, 2.0], [0.3, 0.4])}
    found = compare({"a": long, "b": runs([0.15, 0.35])}, "acc", "max")
    assert found.budget == Budget(iterations=1)
    assert {group.label: group.mean for group in found.groups} == {"a": pytest.approx(0.2), "b": pytest.approx(0.25)}


def test_the_time_to_the_target_is_a_median_that_counts_who_never_reached_it():
    times = [[1.0, 2.0, 3.0, 4.0]] * 3
    values = [[0.1, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.9], [0.1, 0.1, 0.1, 0.1]]
    a = {
        seed: of_reports(seed, "max", time, value) for seed, (time, value) in enumerate(zip(times, values, strict=True))
    }
    found = compare({"a": a}, "acc", "max", target=0.9)
    group = found.groups[0]
    assert (group.reached, group.seconds, group.iterations) == (pytest.approx(2 / 3), 4.0, 4.0)
    assert group.seconds_interval == (2.0, math.inf)
    assert "one strategy" in found.sentence


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    drawn = np.random.default_rng(0).normal(0, 1, (200, 30))
    covered = [low <= 0 <= high for low, high in (interval(row, np.mean, 0.95) for row in drawn)]
    assert 0.89 <= np.mean(covered) <= 0.99


def test_a_strategy_wins_against_itself_by_luck_as_rarely_as_is_said(tmp_path):
    # Of a hundred repeats two may be wins, and more than six once in two hundred times. An interval of ten seeds alone,
    # at the usual 0.95, has about nine, and the larger mean a hundred.
    curves = Curves(recorded(tmp_path, samples=60))
    at, asked = simulator.conditions(curves, 4, None, trials=4), simulator.contender("random_search")
    pool = list(simulator.trajectories(curves, asked, at, range(80)))
    random, wins = np.random.default_rng(0), 0
    for _ in range(100):
        drawn = [pool[index] for index in random.permutation(80)[:20]]
        halves = {"one": dict(enumerate(drawn[:10])), "other": dict(enumerate(drawn[10:]))}
        wins += compare(halves, "loss", "min", Budget(seconds=at.seconds)).pairs[0].winner is not None
    assert wins <= 6
