"""How trials are dealt to brackets: as the docstrings of the strategies say."""

import pytest
from ray import tune
from ray.tune.experiment import Trial

from raysweep.spec.sweep import Sweep, knobs_of, strategy
from raysweep.spec.task import Task


def brackets(name, samples, space, max_iterations=9):
    """The sizes of the brackets that a strategy fills, one after the other, and the iterations to their first rung."""
    task = Task("any", lambda config: None, space, "loss", "min", max_iterations)
    sweep = Sweep("s", name, task, space, "loss", "min", samples, max_iterations, (), 0, "unused")
    chosen = strategy(name)
    config = chosen.tune_config(sweep, knobs_of(chosen, {}))
    scheduler = config.scheduler
    scheduler.set_search_properties("loss", "min")
    count = config.search_alg.total(samples) if config.search_alg else samples
    for number in range(count):
        scheduler.on_trial_add(None, Trial("trial", stub=True, trial_id=f"{number:05d}"))
    made = [bracket for band in scheduler._hyperbands for bracket in band if bracket is not None]
    return [(len(bracket.current_trials()), bracket._r) for bracket in made]


def test_hyperband_begins_with_few_long_trials():
    made = brackets("hyperband", 20, {"x": tune.uniform(0, 1)})
    sizes, rungs = zip(*made, strict=True)
    assert list(sizes[:3]) == sorted(sizes[:3])
    assert list(rungs[:3]) == sorted(rungs[:3], reverse=True)
    assert "from few long trials to many short ones" in strategy("hyperband").doc


@pytest.mark.parametrize(
    ("space", "trials"), [({"x": tune.uniform(0, 1)}, 9), ({"x": tune.grid_search([1, 2, 3])}, 27)]
)
def test_successive_halving_has_one_bracket_of_all_trials(space, trials):
    assert [size for size, _ in brackets("successive_halving", 9, space)] == [trials]
