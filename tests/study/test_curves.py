"""Simulated trials report what was recorded, to the digit, and nothing better than that."""

import numpy as np
import pandas as pd
import pytest
from ray import tune

from raysweep.study.curves import Curves, Replay
from raysweep.study.table import CurveTable, columns

SPACE = {"lr": tune.loguniform(1e-4, 1.0), "width": tune.choice([16, 64, 256]), "act": tune.choice(["relu", "tanh"])}
CONFIGS = [
    {"lr": 1e-3, "width": 16, "act": "relu"},
    {"lr": 1e-1, "width": 16, "act": "relu"},
    {"lr": 1e-3, "width": 256, "act": "tanh"},
]
VALUES = {0: [0.1, 0.2, 0.3, 0.4], 1: [0.5, 0.8, 0.9, 0.95], 2: [0.2, 0.7, 0.75, 0.6]}
ABOUT = {"task": "t", "metric": "acc", "mode": "max", "max_iterations": 4, "space": {}}


def table(seeds=1, values=VALUES, mode="max"):
    rows, flat = [], []
    for number, config in enumerate(CONFIGS):
        for seed in range(seeds):
            for iteration, value in enumerate(values[number], 1):
                rows.append(
                    {
                        "configuration": number,
                        "seed": seed,
                        "iteration": iteration,
                        "seconds": 1.0 + number,
                        "metric/acc": value + 0.001 * seed,
                    }
                )
                flat.append(config)
    frame = pd.DataFrame(rows)
    return CurveTable(pd.concat([frame, pd.DataFrame(columns(SPACE, flat))], axis=1), {**ABOUT, "mode": mode}, SPACE)


@pytest.fixture
def curves():
    return Curves(table())


def follow(replay, config, iterations=4, state=None, start=0):
    steps = []
    for iteration in range(start + 1, start + iterations + 1):
        steps.append(replay("00000", config, iteration, state))
        state = steps[-1].state
    return steps


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("saves", [False, True])
def test_a_recorded_configuration_has_its_own_curve_and_seconds(curves, number, saves):
    steps = follow(Replay(curves, 0, saves), CONFIGS[number])
    assert [step.metrics["acc"] for step in steps] == VALUES[number]
    assert [step.seconds for step in steps] == [1.0 + number] * 4
    assert all((step.state is not None) == saves for step in steps)


@pytest.mark.parametrize(
    ("config", "nearest"),
    [
        ({"lr": 3e-3, "width": 16, "act": "relu"}, 0),  # below the middle of the logarithms, though not of the numbers
        ({"lr": 2e-2, "width": 16, "act": "relu"}, 1),
        ({"lr": 1e-3, "width": 64, "act": "tanh"}, 2),
        ({"lr": 1e-3, "width": 64, "act": "relu"}, 0),
    ],
)
def test_any_other_has_that_of_its_nearest_neighbour(curves, config, nearest):
    assert curves.nearest(config) == nearest


def test_after_an_exploit_a_trial_goes_on_at_the_donors_level_with_its_own_increments(curves):
    donor = follow(Replay(curves, 0, True), CONFIGS[2], 2)[-1]  # at 0.7, after 2 iterations
    assert donor.metrics["acc"] == 0.7
    steps = follow(Replay(curves, 0, True), CONFIGS[1], 2, donor.state, 2)
    # Its own curve is nearest to 0.7 at 0.8, its second iteration: from there it gains 0.1, then 0.05.
    assert [step.metrics["acc"] for step in steps] == pytest.approx([0.8, 0.85])
    assert [step.seconds for step in steps] == [2.0, 2.0]


def test_after_an_exploit_nothing_better_than_the_table_is_reported(curves):
    best = follow(Replay(curves, 0, True), CONFIGS[1])[-1]
    steps = follow(Replay(curves, 0, True), CONFIGS[0], 3, best.state, 4)  # the nearest is its last: no more increments
    assert [step.metrics["acc"] for step in steps] == [0.95] * 3
    low = follow(Replay(curves, 0, True), CONFIGS[0])[-1]  # 0.4, and from its first iteration, 0.5, it gains 0.3
    steps = follow(Replay(curves, 0, True), CONFIGS[1], 3, low.state, 4)
    assert [step.metrics["acc"] for step in steps] == pytest.approx([0.7, 0.8, 0.85])


def test_a_trial_that_waited_goes_on_where_it_was(curves):
    steps = follow(Replay(curves, 0, True), CONFIGS[2], 2)
    again = follow(Replay(curves, 0, True), CONFIGS[2], 2, steps[-1].state, 2)
    assert [step.metrics["acc"] for step in again] == VALUES[2][2:]


def test_each_seed_has_its_noise_the_same_for_every_strategy():
    curves = Curves(table(seeds=5))
    ends = [follow(Replay(curves, seed, False), CONFIGS[0])[-1].metrics["acc"] for seed in range(40)]
    assert {round(end - 0.4, 6) for end in ends} == {0.0, 0.001, 0.002, 0.003, 0.004}
    assert ends == [follow(Replay(curves, seed, True), CONFIGS[0])[-1].metrics["acc"] for seed in range(40)]


def test_the_error_of_the_look_up_is_that_of_leaving_each_configuration_out():
    curves = Curves(table(seeds=2))
    found = curves.accuracy()
    # 0 and 1 are each other's neighbours (0.5 apart), 2 is nearest to 0 (1 + 1 for width and act, against more).
    best = [0.4005, 0.9505, 0.7505]
    assert found.metric == pytest.approx(np.mean([0.55, 0.55, best[2] - best[0]]))
    assert found.noise == pytest.approx(0.001)
    assert found.seconds == pytest.approx(np.mean([2 / 1 - 1, abs(1 / 2 - 1), abs(1 / 3 - 1)]))


def test_the_seconds_of_an_iteration_are_the_median_of_all_seeds():
    late = table(seeds=3)
    late.frame.loc[0, "seconds"] = 60.0  # the first iteration of the first trial, which imports
    late.frame.loc[5, "seconds"] = 1.5
    for seed in range(9):
        assert [step.seconds for step in follow(Replay(Curves(late), seed, False), CONFIGS[0])] == [1.0] * 4


def test_a_diverged_curve_stays_diverged():
    curves = Curves(table(values={**VALUES, 0: [0.1, float("nan")]}))
    steps = follow(Replay(curves, 0, True), CONFIGS[0], 3)
    assert np.isnan([step.metrics["acc"] for step in steps]).tolist() == [False, True, True]
    assert np.isnan(curves.best_of(curves.of(0)[0])) == np.False_
