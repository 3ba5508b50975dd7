"""Grid and random search: the n-th suggestion depends on the seed and on n alone."""

import itertools

import pytest
from ray import tune

from raysweep.points import Point
from raysweep.state import TrialRecord
from raysweep.variants import Variants

SPACE = {
    "lr": tune.loguniform(1e-4, 1e-1),
    "width": tune.choice([32, 64, 128]),
    "head": {"dropout": tune.uniform(0.0, 0.5)},
    "epochs": 10,
}
GRID = {"a": tune.grid_search([1, 2]), "b": tune.grid_search([3, 4, 5]), "lr": tune.uniform(0.0, 1.0)}


def draw(search, count):
    return [search.suggest(f"{n:05d}") for n in range(count)]


def test_the_same_seed_asks_for_the_same_and_another_for_another():
    first, again = draw(Variants(SPACE, seed=3), 8), draw(Variants(SPACE, seed=3), 8)
    assert first == again
    assert len({config["lr"] for config in first}) == 8
    assert draw(Variants(SPACE, seed=4), 8) != first


def test_every_suggestion_is_a_whole_configuration():
    for config in draw(Variants(SPACE), 20):
        assert set(config) == {"lr", "width", "head", "epochs"}
        assert config["epochs"] == 10
        assert 1e-4 <= config["lr"] <= 1e-1
        assert config["width"] in (32, 64, 128)
        assert 0 <= config["head"]["dropout"] <= 0.5


@pytest.mark.parametrize("space", [SPACE, GRID], ids=["random", "grid"])
@pytest.mark.parametrize("adopted", [0, 1, 5, 12])
def test_after_adoption_the_sequence_goes_on(space, adopted):
    points = (Point({"lr": 0.05}),)
    undisturbed = draw(Variants(space, points, seed=1), 16)
    resumed = Variants(space, points, seed=1)
    resumed.begin([TrialRecord(f"{n:05d}", config) for n, config in enumerate(undisturbed[:adopted])])
    assert draw(resumed, 16 - adopted) == undisturbed[adopted:]


def test_a_grid_is_every_combination_once_and_again_for_each_sample():
    search = Variants(GRID)
    assert search.total(2) == 12
    configs = draw(search, 12)
    combinations = sorted(itertools.product([1, 2], [3, 4, 5]))
    for one_pass in (configs[:6], configs[6:]):
        assert sorted((c["a"], c["b"]) for c in one_pass) == combinations
    assert len({config["lr"] for config in configs}) == 12


def test_points_come_first_and_take_the_place_of_samples():
    points = [Point({"lr": 0.002, "head": {"dropout": 0.25}}), Point({"width": 64})]
    search = Variants(SPACE, points, seed=0)
    first, second, third = draw(search, 3)
    assert (first["lr"], first["head"], first["epochs"]) == (0.002, {"dropout": 0.25}, 10)
    assert second["width"] == 64
    assert third["lr"] not in (first["lr"], second["lr"])
    assert search.total(5) == 5


def test_a_point_is_tried_with_the_whole_grid_of_what_it_leaves_open():
    search = Variants(GRID, [Point({"a": 2})])
    assert [(c["a"], c["b"]) for c in draw(search, 3)] == [(2, 3), (2, 4), (2, 5)]
    assert search.total(1) == 3
    assert search.total(3) == 3 + 2 * 6


def test_all_points_are_tried_even_when_there_are_fewer_samples():
    assert Variants(SPACE, [Point({"width": 32})] * 4).total(2) == 4


def test_the_sweeps_space_is_used_when_none_is_given():
    search = Variants(seed=3)
    assert search.set_search_properties("loss", "min", SPACE)
    assert draw(search, 4) == draw(Variants(SPACE, seed=3), 4)
    assert (search.metric, search.mode) == ("loss", "min")


def test_a_space_of_its_own_goes_before_the_sweeps():
    search = Variants({"a": tune.grid_search([1, 2])})
    search.set_search_properties("loss", "min", SPACE)
    assert draw(search, 2) == [{"a": 1}, {"a": 2}]
