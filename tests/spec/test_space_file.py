"""A search space in a file: Ray's domains by their names."""

import json

import pytest
from numpy.random import RandomState
from ray import tune
from ray.tune.search.sample import Domain

from raysweep.errors import BadInput
from raysweep.spec import space_file
from raysweep.spec.space import describe

GOOD = """
lr: {loguniform: [1e-4, 1e-1]}
width: {choice: [32, 64, null]}
steps: {qrandint: [2, 10, 2]}
grid: {grid_search: [a, b]}
optimizer: {name: sgd, momentum: {uniform: [0, 0.99]}}
layers: [1, 2]
seed: 7
"""


def write(folder, text):
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def test_it_is_the_space_that_a_task_would_write(tmp_path):
    written = {
        "lr": tune.loguniform(1e-4, 1e-1),
        "width": tune.choice([32, 64, None]),
        "steps": tune.qrandint(2, 10, 2),
        "grid": tune.grid_search(["a", "b"]),
        "optimizer": {"name": "sgd", "momentum": tune.uniform(0, 0.99)},
        "layers": [1, 2],
        "seed": 7,
    }
    assert describe(space_file.read(write(tmp_path, GOOD))) == describe(written)


def test_json_is_read_too(tmp_path):
    space = space_file.read(write(tmp_path, '{"lr": {"uniform": [0, 1]}}'))
    assert describe(space) == describe({"lr": tune.uniform(0, 1)})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lr: {loguniform: [0, 1]}", "`lr`: loguniform does not take [0, 1]"),
        ("lr: {uniform: [1]}", "`lr`: uniform does not take [1]"),
        ("lr: {uniform: 3}", "`lr`: uniform has the arguments 3: must be a list"),
        ("a: {b: {logunifrom: [1, 2]}}", "`a/b`: `logunifrom` is no domain (did you mean `loguniform`?)"),
        ("- 1", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: [", "not YAML or JSON"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, problem):
    path = write(tmp_path, text)
    with pytest.raises(BadInput) as refused:
        space_file.read(path)
    assert str(refused.value).startswith(f"`--space {path}`: ")
    assert problem in str(refused.value)


def test_all_problems_are_named_at_once(tmp_path):
    with pytest.raises(BadInput) as refused:
        space_file.read(write(tmp_path, "a: {uniform: 1}\nb: {choice: 2}"))
    assert len(refused.value.problems) == 2


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="No such file or directory: name a YAML or JSON file"):
        space_file.read(tmp_path / "none.yaml")


EVERY_DOMAIN = {
    "uniform": tune.uniform(-1.5, 2.0),
    "quniform": tune.quniform(0.0, 1.0, 0.25),
    "loguniform": tune.loguniform(1e-4, 1e-1),
    "qloguniform": tune.qloguniform(1e-2, 1.0, 0.01),
    "randn": tune.randn(3.0, 0.5),
    "qrandn": tune.qrandn(3.0, 0.5, 0.1),
    "randint": tune.randint(1, 9),
    "qrandint": tune.qrandint(2, 10, 2),
    "lograndint": tune.lograndint(1, 1000),
    "qlograndint": tune.qlograndint(10, 1000, 10),
    "choice": tune.choice([1, 2.5, "a", None, True]),
    "grid": tune.grid_search([1, 2]),
    "nested": {"constant": [1, 2], "drawn": tune.uniform(0, 1)},
}


def test_every_domain_is_written_and_read_as_the_same():
    written = json.loads(json.dumps(space_file.write(EVERY_DOMAIN)))
    read = space_file.parse(written, "space")
    assert describe(read) == describe(EVERY_DOMAIN)
    for name, domain in EVERY_DOMAIN.items():
        if isinstance(domain, Domain):
            drawn = [each[name].sample(20, random_state=RandomState(0)) for each in (read, EVERY_DOMAIN)]
            assert drawn[0] == drawn[1], name


@pytest.mark.parametrize(
    "domain", [tune.sample_from(lambda spec: 1), tune.choice([print]), tune.choice([tune.uniform(0, 1)]), float("nan")]
)
def test_what_a_file_cannot_have_is_refused_by_name(domain):
    with pytest.raises(BadInput, match="`odd`"):
        space_file.write({"lr": tune.uniform(0, 1), "odd": domain})
