"""A space's domains, from its description in sweep.json."""

from __future__ import annotations

import pytest
from ray import tune
from ray.tune.search.sample import Function

from raysweep.spec.configuration import parameters
from raysweep.spec.described import domains
from raysweep.spec.space import describe

SPACES = [
    {"a": tune.uniform(0, 1), "b": tune.loguniform(1e-4, 1e-1), "c": tune.quniform(0, 1, 0.1)},
    {"d": tune.randint(1, 9), "e": tune.qlograndint(4, 100, 4), "f": tune.lograndint(1, 100)},
    {"g": tune.randn(0, 1), "h": tune.qrandn(5, 2, 0.5), "i": tune.qloguniform(0.001, 1, 0.001)},
    {"j": tune.choice(["r e", "g, ]", (1, 2), None, True, "'"]), "k": {"l": [tune.uniform(-1, 0), 3]}},
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: " ".join(space))
def test_the_domains_describe_themselves_as_those_of_the_space_do(space: dict) -> None:
    found = domains(describe(space))
    assert set(found) == set(parameters(space))
    again = {"/".join(map(str, path)): domain for path, domain in found.items()}
    assert describe(again) == {name: line for name, line in describe(space).items() if "constant" not in line}


def test_a_grid_is_a_choice_of_its_values() -> None:
    found = domains(describe({"width": tune.grid_search([1, 2])}))
    assert found["width",].categories == [1, 2]


@pytest.mark.parametrize(
    "domain", [tune.sample_from(lambda _: 1), tune.choice([len, print])], ids=["function", "class"]
)
def test_what_a_description_does_not_tell_is_unknown(domain: object) -> None:
    assert isinstance(domains(describe({"p": domain}))["p",], Function)


def test_a_constant_is_no_parameter() -> None:
    assert domains(describe({"epochs": 3, "lr": tune.uniform(0, 1)})).keys() == {("lr",)}
