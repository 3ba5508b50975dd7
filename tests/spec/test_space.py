"""Search spaces: what each strategy needs is derived from one space, or refused by the parameter's name."""

import itertools

import pytest
from ray import tune

from raysweep.errors import BadInput
from raysweep.loop.random_grid_search import Variants
from raysweep.spec import space

SPACE = {
    "lr": tune.loguniform(1e-4, 1e-1),
    "momentum": tune.uniform(0.5, 0.99),
    "width": tune.choice([32, 64]),
    "depth": tune.randint(1, 4),
    "epochs": 10,
    "head": {"dropout": tune.uniform(0.0, 0.5), "norm": tune.grid_search(["batch", "layer"])},
}


def grid_of(domain, resolution=0):
    return space.grid({"x": domain}, resolution)["x"]["grid_search"]


def test_parameters_are_named_with_their_path():
    assert list(space.domains(SPACE)) == ["lr", "momentum", "width", "depth", "head/dropout"]
    assert space.grids(SPACE) == {"head/norm": ["batch", "layer"]}
    assert space.domains({"a": 1}) == space.grids({"a": 1}) == {}


@pytest.mark.parametrize(
    ("domain", "resolution", "values"),
    [
        (tune.choice([64, 32, "a"]), 0, [64, 32, "a"]),
        (tune.randint(1, 4), 0, [1, 2, 3]),
        (tune.randint(1, 4), 3, [1, 2, 3]),
        (tune.lograndint(1, 1001), 4, [1, 10, 100, 1000]),
        (tune.randint(0, 101), 5, [0, 25, 50, 75, 100]),
        (tune.randint(0, 4), 2, [0, 3]),
        (tune.uniform(-1.0, 3.0), 3, [-1.0, 1.0, 3.0]),
        (tune.uniform(0.1, 0.7), 2, [0.1, 0.7]),
        (tune.quniform(0.0, 1.0, 0.5), 3, [0.0, 0.5, 1.0]),
        (tune.qrandint(2, 8, 2), 0, [2, 4, 6, 8]),
        (tune.qrandint(2, 8, 2), 4, [2, 4, 6, 8]),
        (tune.qrandint(2, 8, 2), 2, [2, 8]),
        (tune.qrandint(1, 8, 3), 0, [3, 6]),
        (tune.qrandint(1, 4, 1), 0, [1, 2, 3]),
        (tune.qrandint(0, 100, 10), 4, [0, 30, 70, 100]),
        (tune.qlograndint(1, 128, 2), 4, [2, 8, 32, 128]),
        (tune.quniform(0.0, 1.0, 0.25), 0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (tune.quniform(0.0, 1.0, 0.25), 4, [0.0, 0.25, 0.75, 1.0]),
        (tune.quniform(-1.0, 1.0, 0.5), 2, [-1.0, 1.0]),
        (tune.qloguniform(0.25, 16.0, 0.25), 4, [0.25, 1.0, 4.0, 16.0]),
    ],
)
def test_grid_of_a_domain(domain, resolution, values):
    assert grid_of(domain, resolution) == values


def test_grid_on_a_log_scale_has_equal_ratios_and_exact_ends():
    low, high = 1e-4, 0.3
    values = grid_of(tune.loguniform(low, high), 7)
    assert (values[0], values[-1], len(values)) == (low, high, 7)
    ratios = [b / a for a, b in itertools.pairwise(values)]
    assert ratios == pytest.approx([(high / low) ** (1 / 6)] * 6)


def test_grid_without_resolution_names_every_continuous_parameter():
    with pytest.raises(BadInput) as error:
        space.grid(SPACE, 0)
    named = [problem.split("`")[1] for problem in error.value.problems]
    assert named == ["lr", "momentum", "head/dropout"]
    assert "0.5 to 0.99" in error.value.problems[1]
    assert all("--resolution N" in problem for problem in error.value.problems)


def test_grid_keeps_constants_nesting_and_given_grids():
    made = space.grid(SPACE, 2)
    assert made["epochs"] == 10
    assert made["head"] == {"dropout": {"grid_search": [0.0, 0.5]}, "norm": {"grid_search": ["batch", "layer"]}}
    assert space.domains(made) == {}
    assert set(space.grids(made)) == {"lr", "momentum", "width", "depth", "head/dropout", "head/norm"}


@pytest.mark.parametrize("domain", [tune.sample_from(lambda config: 1), tune.randn(0, 1)], ids=["function", "normal"])
def test_what_has_no_grid_is_named(domain):
    with pytest.raises(BadInput, match="`a/x` has no grid"):
        space.grid({"a": {"x": domain}}, 5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"n": tune.randint(0, 2**31)}, "`n` has 2147483648 values: give --resolution N for N of them, or make it"),
        ({"x": tune.quniform(0.0, 1.0, 1e-7)}, "`x` has 10000001 values: give --resolution N"),
        (
            {key: tune.choice(range(50)) for key in "abc"},
            "the grid has 125000 combinations (`a` 50, `b` 50, `c` 50), and each is a trial: at most 100000",
        ),
        ({"c": tune.choice([tune.uniform(0, 1), 7])}, "`c` has no grid: make it tune.choice or tune.grid_search"),
        (
            {1: tune.choice([1]), "a": tune.choice([1])},
            "the keys of the space have several types, and a grid is sorted",
        ),
    ],
)
def test_a_grid_without_end_or_order_is_refused_before_it_is_made(given, told):
    with pytest.raises(BadInput) as error:
        space.grid(given, 0)
    assert error.value.problems[0].startswith(told)


def test_a_large_range_of_integers_has_a_grid_with_a_resolution():
    assert len(grid_of(tune.randint(0, 2**31), 5)) == 5


def test_a_grid_has_the_domains_in_lists_and_tuples():
    given = {"layers": [tune.choice([8, 16]), (tune.choice([32, 64]), 1)], "act": tune.choice(["a", "b"])}
    search = Variants(space.grid(given, 0))
    configs = [search.suggest(f"{n:05d}") for n in range(search.total(1))]
    expected = itertools.product([8, 16], [32, 64], "ab")
    assert sorted((c["layers"][0], c["layers"][1][0], c["act"]) for c in configs) == sorted(expected)
    assert all(type(config["layers"][1]) is tuple for config in configs)


def test_a_list_that_looks_like_a_forgotten_choice_is_noted():
    given = {"lr": [0.1, 0.01], "opt": {"name": ["sgd", "adam"]}, "betas": (0.9, 0.99), "one": [3], "mixed": [1, "a"]}
    notes = space.forgotten_choices({**given, "in": [tune.uniform(0, 1), 1.0], "x": tune.uniform(0, 1)})
    assert [note.split(",")[0] for note in notes] == [
        "note: `lr` is the list [0.1",
        "note: `opt/name` is the list ['sgd'",
    ]
    assert notes[0].endswith("to try each value, write tune.choice([0.1, 0.01])")


def test_a_searcher_takes_every_plain_domain():
    drawable = {**SPACE, "head": {"dropout": tune.quniform(0.0, 0.5, 0.1)}, "n": tune.qrandint(2, 8, 2)}
    space.check_for_searcher(drawable, "TPE")


@pytest.mark.parametrize(
    "domain",
    [
        tune.qlograndint(1, 100, 2),  # Optuna knows no steps on a log scale: it raises …
        tune.qloguniform(0.1, 1.0, 0.1),  # … or draws without them
        tune.qrandint(1, 8, 3),  # 1, 4, 7
        tune.qrandint(1, 8, 1),  # up to and with 8
    ],
)
def test_a_searcher_names_what_it_would_quantize_otherwise(domain):
    with pytest.raises(BadInput, match="`n` is quantized, and TPE would sample other values"):
        space.check_for_searcher({"n": domain}, "TPE")


def test_a_searcher_names_everything_that_it_cannot_draw():
    with pytest.raises(BadInput) as error:
        space.check_for_searcher(
            {**SPACE, "f": tune.sample_from(lambda config: 1), "n": tune.randn(0, 1), "q": tune.qrandn(0, 1, 0.1)}, "GP"
        )
    assert [p.split(",")[0].split(":")[0] for p in error.value.problems] == [
        "`head/norm` is a grid_search",
        "`f` is a sample_from",
        "`n` is normally distributed",
        "`q` is normally distributed",
    ]
    assert all("GP" in problem for problem in error.value.problems)


@pytest.mark.parametrize("nothing", [{}, {"epochs": 3}])
def test_a_searcher_wants_something_to_draw(nothing):
    with pytest.raises(BadInput, match="nothing to sample, so TPE has nothing to search"):
        space.check_for_searcher(nothing, "TPE")


DRAWN = {
    "quniform": tune.quniform(0.0, 1.0, 0.1),
    "qloguniform": tune.qloguniform(0.1, 1.0, 0.1),
    "qrandint": tune.qrandint(1, 8, 3),
    "qrandint by 1": tune.qrandint(1, 4, 1),
    "qlograndint": tune.qlograndint(1, 16, 2),
    "randint": tune.randint(1, 4),
    "lograndint": tune.lograndint(1, 4),
}


@pytest.mark.parametrize("name", DRAWN)
def test_what_ray_draws_is_the_grid_and_is_allowed(name):
    domain = DRAWN[name]
    drawn = {domain.cast(value) for value in domain.sample(size=2000, random_state=0)}
    assert drawn == set(grid_of(domain))
    assert all(space.allows(domain, value) for value in drawn)


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        (tune.quniform(0.0, 1.0, 0.1), 0.15),
        (tune.quniform(0.0, 1.0, 0.1), 1.1),
        (tune.qrandn(0.0, 1.0, 0.5), 0.3),
        (tune.qrandint(1, 8, 3), 1),
        (tune.qrandint(1, 4, 1), 4),
        (tune.randint(0, 2), True),
        (tune.uniform(0.0, 1.0), True),
        (tune.randn(), float("inf")),
        (tune.choice([1, 2]), 3),
    ],
)
def test_what_ray_never_draws_is_not_allowed(domain, value):
    assert not space.allows(domain, value)


def test_a_normal_domain_allows_any_number_on_its_steps():
    assert space.allows(tune.randn(0.0, 1.0), -7.3)
    assert space.allows(tune.qrandn(0.0, 1.0, 0.5), -7.5)


def identity(config):
    return config


def test_the_same_space_has_the_same_description():
    def make():
        return {
            "b": tune.loguniform(1e-4, 1e-1),
            "a": {"c": tune.choice(["x", "y"]), "d": tune.grid_search([1, 2])},
            "q": tune.quniform(0.0, 1.0, 0.1),
            "epochs": 10,
        }

    assert space.describe(make()) == space.describe(make())
    assert space.describe(make()) == {
        "a/c": "Categorical ['x', 'y'] Uniform",
        "a/d": "grid [1, 2]",
        "b": "Float (0.0001, 0.1) LogUniform",
        "epochs": "constant 10",
        "q": "Float (0.0, 1.0) Uniform q=0.1",
    }


def test_a_description_says_nothing_of_one_process():
    described = space.describe(
        {
            "x": tune.sample_from(identity),
            "y": tune.sample_from(lambda config: 1),
            "act": tune.choice([identity, len]),
            "constant": [identity, object()],
            "grid": tune.grid_search([identity]),
        }
    )
    assert "0x" not in str(described)
    assert described["act"] == "Categorical [<function identity>, <built-in function len>] Uniform"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (tune.uniform(0, 1), tune.uniform(0, 2)),
        (tune.uniform(0.1, 1), tune.loguniform(0.1, 1)),
        (tune.uniform(0, 2), tune.randint(0, 2)),
        (tune.choice([1, 2]), tune.choice([1, 3])),
        (tune.choice([1, 2]), tune.grid_search([1, 2])),
        (tune.grid_search([1, 2]), tune.grid_search([2, 1])),
        (tune.choice([1, 2]), tune.choice(["1", "2"])),
        (tune.quniform(0, 1, 0.1), tune.quniform(0, 1, 0.2)),
        (tune.quniform(0, 1, 0.1), tune.uniform(0, 1)),
        (tune.randn(0, 1), tune.randn(0, 2)),
        (tune.randn(0, 1), tune.randn(1, 1)),
        (tune.randn(0, 1), tune.qrandn(0, 1, 0.5)),
        (3, 4),
        (3, "3"),
        ({"a": {"b": 3}}, {"a": {"b": 4}}),
        (3, [3]),
        (tune.uniform(0, 1), 3),
        (tune.grid_search([1]), [1]),
    ],
)
def test_another_space_has_another_description(one, other):
    assert space.describe({"x": one}) != space.describe({"x": other})
