"""Grid and random search: the n-th suggestion depends on the seed and on n alone."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import tune
from ray.tune.search import Searcher

from raysweep.history.sweep_state import TrialRecord
from raysweep.loop.random_grid_search import Variants
from raysweep.spec.initial_points import Point

SPACE = {
    "lr": tune.loguniform(1e-4, 1e-1),
    "width": tune.choice([32, 64, 128]),
    "head": {"dropout": tune.uniform(0.0, 0.5)},
    "epochs": 10,
}
GRID = {"a": tune.grid_search([1, 2]), "b": tune.grid_search([3, 4, 5]), "lr": tune.uniform(0.0, 1.0)}


def draw(search, count):
    return [search.suggest(f"{n:05d}") for n in range(count)]


def test_the_same_seed_suggests_the_same_and_another_seed_others():
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


# Recorded when the class called private functions of Ray: the same seed still asks for the same.


def test_random_draws_are_those_that_were_recorded():
    assert draw(Variants(SPACE, seed=3), 2) == [
        {"lr": near(0.004491523825138), "width": 64, "head": {"dropout": near(0.41997452188620243)}, "epochs": 10},
        {"lr": near(0.00023119888943384028), "width": 64, "head": {"dropout": near(0.44647347717382735)}, "epochs": 10},
    ]


def test_random_draws_after_points_are_those_that_were_recorded():
    points = [Point({"lr": 0.002, "head": {"dropout": 0.25}}), Point({"width": 64})]
    assert draw(Variants(SPACE, points, seed=3), 3) == [
        {"lr": 0.002, "width": 128, "head": {"dropout": 0.25}, "epochs": 10},
        {"lr": near(0.00016299513426714401), "width": 64, "head": {"dropout": near(0.41997452188620243)}, "epochs": 10},
        {"lr": near(0.00023119888943384028), "width": 64, "head": {"dropout": near(0.44647347717382735)}, "epochs": 10},
    ]


RECORDED_LRS = [0.5507979025745755, 0.7081478226181048, 0.2909047389129443, 0.510827605197663, 0.8929469543476547]


def test_a_grid_has_the_order_and_the_draws_that_were_recorded():
    expected = zip([1, 2, 1, 2, 1], [3, 3, 4, 4, 5], RECORDED_LRS, strict=True)
    assert draw(Variants(GRID, seed=3), 5) == [{"a": a, "b": b, "lr": near(lr)} for a, b, lr in expected]


def test_a_grid_after_a_point_has_the_order_and_the_draws_that_were_recorded():
    expected = zip([2, 2, 2, 1, 2], [3, 4, 5, 3, 3], RECORDED_LRS, strict=True)
    found = draw(Variants(GRID, [Point({"a": 2})], seed=3), 5)
    assert found == [{"a": a, "b": b, "lr": near(lr)} for a, b, lr in expected]


def test_domains_within_choices_and_grids_have_the_draws_that_were_recorded():
    space = {
        "opt": tune.grid_search(
            [{"name": "sgd", "lr": tune.loguniform(1e-3, 1.0)}, {"name": "adam", "lr": tune.loguniform(1e-5, 1e-2)}]
        ),
        "extra": tune.choice([tune.uniform(0, 1), {"p": tune.randint(0, 9)}, 3, tune.grid_search([7, 8])]),
        "layers": [tune.uniform(0, 1), {"w": tune.quniform(0.0, 1.0, 0.25)}],
        "more": tune.grid_search([tune.uniform(5, 6), 1]),
    }
    assert draw(Variants(space, seed=3), 6) == [
        within("sgd", 0.0023119888943384033, 3, 0.07072488001099086, 0.75, 5.569311327434681),
        within("sgd", 0.004185319668991121, 7, 0.8962930889334381, 0.25, 1),
        within("sgd", 0.0014269265210969547, 8, 0.8962930889334381, 0.25, 1),
        within("adam", 0.00022883207745802753, near(0.21557700841491878), 0.6948236527284697, 0.25, 5.353905071886293),
        within("adam", 0.00047485636531424447, 3, 0.5908628174163508, 0.0, 1),
        within("sgd", 0.008300072572413135, {"p": 7}, 0.40236064355895806, 0.5, 5.156867738474963),
    ]


def within(name, lr, extra, layer, width, more):
    opt = {"name": name, "lr": near(lr)}
    return {"opt": opt, "extra": extra, "layers": [near(layer), {"w": width}], "more": near(more)}


def near(value):
    return pytest.approx(value, rel=1e-12)


# What a parameter depends on.

DEPENDENT = {
    "twice": tune.sample_from(lambda spec: spec.config.x * 2),
    "x": tune.uniform(0, 1),
    "more": {"eval": "spec.config.twice + 1"},
    "which": tune.grid_search([1, 2]),
    "as_which": tune.sample_from(lambda spec: spec.config.which * spec.config.epochs),
    "epochs": 10,
}


@pytest.mark.parametrize("points", [(), (Point({"x": 5.0}), Point({"x": 7.0, "which": 2}))], ids=["drawn", "given"])
def test_a_parameter_may_depend_on_others_drawn_or_given_by_a_point(points):
    configs = draw(Variants(DEPENDENT, points), 5)
    for config in configs:
        assert config["twice"] == config["x"] * 2
        assert config["more"] == config["twice"] + 1
        assert config["as_which"] == config["which"] * 10
    given = [5.0, 5.0, 7.0] if points else []
    assert [config["x"] for config in configs][: len(given)] == given


def test_a_point_may_say_itself_what_else_depends_on_others():
    assert draw(Variants(DEPENDENT, [Point({"twice": 3.0})]), 1)[0]["more"] == 4.0


def test_a_parameter_may_depend_on_an_object_that_was_chosen():
    space = {
        "scale": tune.choice([np.float32(0.5), np.float32(0.25)]),
        "grid": tune.grid_search([np.ones(2), np.zeros(2)]),
        "sum": tune.sample_from(lambda spec: spec.config.scale + spec.config.grid.sum()),
    }
    for config in draw(Variants(space), 6):
        assert config["sum"] == config["scale"] + config["grid"].sum()


# Objects to choose from.


class Activation: ...


OBJECTS = {
    "functions": [near, draw, torch.relu, lambda x: x],
    "classes": [dict, Activation, torch.nn.ReLU],
    "instances": [Activation(), Activation()],
    "paths": [Path("a"), Path("b")],
    "types": [torch.float32, torch.float16],
    "numpy numbers": [np.float32(0.1), np.float64(0.5), np.int64(3)],
    "arrays": [np.zeros(3), np.ones(3), np.ones((3, 2))],
    "collections": [(1, 2), [1, [2]], {"name": "sgd", "at": Path("a")}, []],
}


@pytest.mark.parametrize("kind", sorted(OBJECTS))
@pytest.mark.parametrize("make", [tune.choice, tune.grid_search])
def test_a_trial_is_given_the_very_object_of_the_space(make, kind):
    space = {"nested": {"object": make(OBJECTS[kind])}, "x": tune.uniform(0, 1)}
    given = [config["nested"]["object"] for config in draw(Variants(space), 40)]
    assert {id(each) for each in given} == {id(each) for each in OBJECTS[kind]}


@pytest.mark.parametrize("make", [tune.choice, tune.grid_search])
def test_a_point_may_give_an_object(make):
    chosen = OBJECTS["arrays"][1]
    search = Variants({"object": make(OBJECTS["arrays"]), "x": tune.uniform(0, 1)}, [Point({"object": chosen})])
    assert search.suggest("00000")["object"] is chosen


def test_constants_are_copied_where_they_can_change_and_are_the_very_objects_else():
    array = np.zeros(3)
    space = {"x": tune.uniform(0, 1), "fixed": {"array": array, "make": near, "list": [1, {"a": 2}]}}
    first, second = draw(Variants(space), 2)
    assert first["fixed"]["array"] is array
    assert first["fixed"]["make"] is near
    first["fixed"]["list"][1]["a"] = None
    assert second["fixed"]["list"] == space["fixed"]["list"] == [1, {"a": 2}]


# Points.


@pytest.mark.parametrize("config", [{"a": {"b": 0.5}}, {"a/b": 0.5}])
def test_a_point_names_a_nested_parameter_either_way(config):
    space = {"a": {"b": tune.uniform(0, 1), "c": tune.uniform(0, 1)}, "layers": [tune.uniform(0, 1)]}
    first, second = draw(Variants(space, [Point(config), Point({"layers/0": 0.25})]), 2)
    assert (first["a"]["b"], second["layers"]) == (0.5, [0.25])
    assert 0 < first["a"]["c"] < 1


def test_an_empty_grid_has_no_configuration():
    search = Variants({"a": tune.grid_search([]), "x": tune.uniform(0, 1)})
    assert (search.total(3), search.suggest("00000")) == (0, Searcher.FINISHED)


@pytest.mark.parametrize("space", [SPACE, GRID], ids=["random", "grid"])
def test_ten_thousand_suggestions_cost_each_what_the_first_ones_do(space):
    search = Variants(space)

    def seconds(count):
        began = time.process_time()
        draw(search, count)
        return time.process_time() - began

    seconds(100)
    first = seconds(1000)
    seconds(8000)
    assert seconds(1000) < 3 * first
