"""The job that trains a sweep's best configurations again: which ones, and with which seeds."""

import pytest
from ray import tune

from raysweep.driver import verify
from raysweep.errors import BadInput
from raysweep.spec.flags import Flags
from tests.study.finished import ITERATIONS, TASK, sweep, verification


def test_the_best_configurations_are_trained_with_fresh_seeds(tmp_path):
    original = sweep(tmp_path, "first", samples=9)
    found = verification(tmp_path, "first")
    trials = list(found.state.trials.values())
    assert len(trials) == 3 * 4
    best = sorted(original.table["loss"])[:3]
    rows = original.table[original.table["loss"].isin(best)]
    configs = {(row["config/x"], row["config/y"], row["config/pace"]) for _, row in rows.iterrows()}
    assert {(t.config["x"], t.config["y"], t.config["pace"]) for t in trials} == configs
    assert {trial.config["seed"] for trial in trials} == {1, 2, 3, 4}
    assert all(len(trial.results) == ITERATIONS for trial in trials)


def test_seeds_that_the_sweep_had_are_not_fresh(tmp_path):
    sweep(tmp_path, "second", samples=3, trial_seed=2)
    assert {trial.config["seed"] for trial in verification(tmp_path, "second").state.trials.values()} == {1, 3, 4, 5}


def test_a_configuration_counts_once_however_often_it_was_drawn(tmp_path):
    one = sweep(tmp_path, "one", samples=3)
    twice = verify.points(one, {**TASK.space, "seed": tune.randint(0, 9)}, top=9, seeds=2)
    assert len(twice) == 3 * 2


def test_all_of_the_first_seed_come_before_any_of_the_second(tmp_path):
    found = verification(tmp_path, sweep(tmp_path, "one", samples=5).spec["name"], top=2, seeds=3)
    assert [trial.config["seed"] for trial in found.state.trials.values()] == [1, 1, 2, 2, 3, 3]


def test_the_task_is_given_a_seed_and_stays_as_it_is():
    task = verify.task_of(Flags(task="quadratic"))
    assert task.train is TASK.train
    assert task.space.keys() == {*TASK.space, "seed"}


def test_what_cannot_be_trained_again_is_refused(tmp_path):
    sweep(tmp_path, "population", "pbt", samples=8)
    with pytest.raises(BadInput, match="that of a schedule"):
        verification(tmp_path, "population")
    with pytest.raises(BadInput, match="there is no sweep `nothing`"):
        verification(tmp_path, "nothing")
    several = sweep(tmp_path, "several", samples=2, spec={"metrics": ["loss", "other"], "modes": ["min", "max"]})
    with pytest.raises(BadInput, match="several objectives"):
        verify.points(several, TASK.space, 1, 1)
