"""Which trials of an earlier sweep come into a new one, as what, and what is refused by name."""

import math

import pytest
from ray import tune

from raysweep.errors import BadInput
from raysweep.history.results import Objective
from raysweep.history.warm_start import best_configurations, earlier
from raysweep.loop.simulation import Step
from tests.study.finished import ITERATIONS, TASK, noisy, sweep

LOSS = Objective(("loss",), ("min",))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("sweeps"), "first", samples=12)


def test_all_trials_of_the_same_space_come_in_with_their_last_values(first):
    found = earlier(first, TASK.space, LOSS, ITERATIONS)
    trials = first.state.trials
    assert [(o.trial, o.config, o.values[0]) for o in found.observations] == [
        (t.id, t.config, t.results[ITERATIONS].metrics["loss"]) for t in trials.values()
    ]
    assert all(o.complete and o.sweep == first.url for o in found.observations)
    assert found.same == ("pace", "x", "y")
    assert found.sentence == (
        "warm start from first (task quadratic): 12 of 12 trials; same parameters: `pace`, `x`, `y`"
    )


def test_trials_outside_of_another_range_are_left_out_with_their_number(first):
    space = {**TASK.space, "x": tune.uniform(0.0, 9.0), "pace": tune.choice([0.5, 0.9])}
    found = earlier(first, space, LOSS, ITERATIONS)
    configs = [trial.config for trial in first.state.trials.values()]
    inside = [c for c in configs if c["x"] >= 0 and c["pace"] != 0.7]
    assert [o.config for o in found.observations] == inside
    assert found.outside == {
        name: count
        for name, count in {
            "x": sum(c["x"] < 0 for c in configs),
            "pace": sum(c["pace"] == 0.7 for c in configs),
        }.items()
        if count
    }
    assert (found.same, found.other) == (("y",), ("pace", "x"))
    assert f"{found.outside['x']} by `x`" in found.sentence


def test_a_stopped_trial_is_not_complete_and_a_diverged_one_has_no_value(tmp_path):
    def outcome(trial, config, iteration, state):
        return Step({"loss": math.nan}) if trial == "00003" else noisy(trial, config, iteration, state)

    asha = sweep(tmp_path, "asha", "asha", samples=12, outcome=outcome)
    found = {o.trial: o for o in earlier(asha, TASK.space, LOSS, ITERATIONS).observations}
    assert (found["00003"].values, found["00003"].complete) == ((), False)
    for trial in asha.state.trials.values():
        if trial.id != "00003":
            assert found[trial.id].complete is (trial.status == "finished")
            assert found[trial.id].iteration == max(trial.results)
            assert found[trial.id].values == (trial.last.metrics["loss"],)
    assert {o.complete for o in found.values()} == {True, False}


def test_values_are_those_at_the_new_sweeps_last_iteration(first):
    shorter = earlier(first, TASK.space, LOSS, 2).observations
    assert [o.values[0] for o in shorter] == [t.results[2].metrics["loss"] for t in first.state.trials.values()]
    assert all(o.complete and o.iteration == 2 for o in shorter)
    longer = earlier(first, TASK.space, LOSS, ITERATIONS + 1).observations
    assert not any(o.complete for o in longer), "they were not trained for so long"


def test_a_trial_that_ended_by_itself_is_complete_for_a_longer_sweep_too(tmp_path):
    def outcome(trial, config, iteration, state):
        return noisy(trial, config, iteration, state) if iteration <= 3 else None

    ended = sweep(tmp_path, "ended", samples=2, outcome=outcome)
    assert all(o.complete and o.iteration == 3 for o in earlier(ended, TASK.space, LOSS, 20).observations)


def test_failed_and_unfinished_trials_are_counted(tmp_path):
    def outcome(trial, config, iteration, state):
        if trial == "00001":
            raise RuntimeError("broken")
        return noisy(trial, config, iteration, state)

    broken = sweep(tmp_path, "broken", samples=4, outcome=outcome)
    broken.state.trials["00002"].status = "running"
    found = earlier(broken, TASK.space, LOSS, ITERATIONS)
    assert [o.trial for o in found.observations] == ["00000", "00003"]
    assert found.unusable == 2
    assert found.sentence.endswith("left out, without a result: 2")


def test_a_population_comes_in_with_its_last_configurations(tmp_path):
    population = sweep(tmp_path, "population", "pbt", samples=8)
    changed = [t for t in population.state.trials.values() if t.donors]
    assert changed
    by_trial = {o.trial: o for o in earlier(population, TASK.space, LOSS, ITERATIONS).observations}
    for trial in changed:
        assert by_trial[trial.id].config == trial.results[ITERATIONS].config


@pytest.mark.parametrize(
    ("space", "objective", "told"),
    [
        ({**TASK.space, "z": tune.uniform(0, 1)}, LOSS, "its trials have no `z`"),
        ({key: TASK.space[key] for key in ("x", "y")}, LOSS, "its trials have `pace`, which is not in this space"),
        (TASK.space, Objective(("accuracy",), ("max",)), "it optimised `loss`, and this sweep `accuracy`"),
        (TASK.space, Objective(("loss",), ("max",)), "its mode for `loss` is min, and here it is max"),
        ({**TASK.space, "x": tune.uniform(20, 30)}, LOSS, "none of its 12 trials can be used (12 by `x` outside"),
        ({**TASK.space, "pace": 0.5}, LOSS, None),
        ({**TASK.space, "pace": 0.6}, LOSS, "none of its 12 trials can be used (12 by `pace` outside"),
    ],
)
def test_what_does_not_overlap_is_refused_by_name(first, space, objective, told):
    if told is None:
        inside = [o.config["pace"] for o in earlier(first, space, objective, ITERATIONS).observations]
        assert inside == [t.config["pace"] for t in first.state.trials.values() if t.config["pace"] == 0.5] != []
        return
    with pytest.raises(BadInput) as caught:
        earlier(first, space, objective, ITERATIONS)
    assert any(problem.startswith("`--warm-start first`: ") and told in problem for problem in caught.value.problems)


def test_the_best_configurations_are_those_of_the_table_each_once(first):
    observations = earlier(first, TASK.space, LOSS, ITERATIONS).observations
    ends = {t.id: t.results[ITERATIONS].metrics["loss"] for t in first.state.trials.values()}
    expected = [first.state.trials[id].config for id in sorted(ends, key=ends.__getitem__)]
    assert best_configurations([*observations, *observations], "min", 3) == expected[:3]
    assert best_configurations(observations, "max", 12) == expected[::-1]
