"""Points files: read as YAML or JSON, and every mistake told with file, line and key."""

import json

import numpy as np
import pytest
from ray import tune

from raysweep.errors import BadInput
from raysweep.spec.configuration import Codec
from raysweep.spec.initial_points import Point, parse, read

SPACE = {
    "lr": tune.loguniform(1e-4, 1e-1),
    "width": tune.choice([32, 64]),
    "depth": tune.randint(1, 4),
    "head": {"dropout": tune.uniform(0.0, 0.5)},
    "norm": tune.grid_search(["batch", "layer"]),
    "epochs": 10,
}
FLAT = {"lr": 0.01, "width": 32, "depth": 1, "head/dropout": 0.1, "norm": "batch"}
WHOLE = {"lr": 0.01, "width": 32, "depth": 1, "head": {"dropout": 0.1}, "norm": "batch"}


@pytest.fixture
def refused(tmp_path):
    """text of a file -> problems, without what they all begin with."""

    def problems(text):
        path = tmp_path / "points.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(BadInput) as error:
            read(path, SPACE)
        begin = f"`--points {path}`: "
        assert all(problem.startswith(begin) for problem in error.value.problems)
        return [problem.removeprefix(begin) for problem in error.value.problems]

    return problems


def test_yaml(tmp_path):
    path = tmp_path / "points.yaml"
    path.write_text("- lr: 0.01\n  width: 32\n- {lr: 0.001, head: {dropout: 0.2}, norm: layer}\n- {}\n")
    assert read(path, SPACE) == [
        Point({"lr": 0.01, "width": 32}),
        Point({"lr": 0.001, "head/dropout": 0.2, "norm": "layer"}),
        Point({}),
    ]


def test_json_with_a_known_value(tmp_path):
    path = tmp_path / "points.json"
    path.write_text(json.dumps([{"lr": 0.01}, {"config": WHOLE, "value": 0.97}], indent=1))
    assert read(path, SPACE) == [Point({"lr": 0.01}), Point(FLAT, 0.97)]


def test_an_empty_list_has_no_points(tmp_path):
    path = tmp_path / "points.json"
    path.write_text("[]")
    assert read(path, SPACE) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: must be a list of configurations, not a NoneType"),
        ("0.1", "line 1: must be a list of configurations, not a float"),
        ("lr", "line 1: must be a list of configurations, not a str"),
        ("lr: 0.1\n", "line 1: must be a list of configurations, not a dict"),
        ('{"lr": 0.1}', "line 1: must be a list of configurations, not a dict"),
        ("- lr: 0.01\n- 3\n", "line 2: must be a configuration (key: value), not 3"),
        ("- lr: 0.01\n\n# no\n- lrr: 0.01\n", "line 4: `lrr` is not in the search space (did you mean `lr`?)"),
        ("- epochs: 3\n", "line 1: `epochs` is 3, but in the space it is always 10"),
        ("- lr: 1.0\n", "line 1: `lr` is 1.0, outside of (0.0001, 0.1)"),
        ("- lr: fast\n", "line 1: `lr` is 'fast', outside of (0.0001, 0.1)"),
        ("- lr: .nan\n", "line 1: `lr` is nan, outside of (0.0001, 0.1)"),
        ("- lr: null\n", "line 1: `lr` is None, outside of (0.0001, 0.1)"),
        ("- width: 48\n", "line 1: `width` is 48, outside of [32, 64]"),
        ("- norm: none\n", 'line 1: `norm` is \'none\', outside of ["batch", "layer"]'),
        ("- head: {dropout: 2.0}\n", "line 1: `head/dropout` is 2.0, outside of (0.0, 0.5)"),
        ("- depth: 0\n", "line 1: `depth` is 0, outside of"),
        ("- depth: 4\n", "line 1: `depth` is 4, outside of"),
        ("- depth: 1.5\n", "line 1: `depth` is 1.5, outside of"),
        (b"- lr: \xff\n", "not YAML or JSON"),
        ("- lr: [0.1\n", "not YAML or JSON"),
        ('[{"lr": 0.1,}', "not YAML or JSON"),
    ],
)
def test_a_malformed_file_is_told_with_line_and_key(refused, text, told):
    [problem] = refused(text)
    assert problem.startswith(told)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('"high"', "`value` is 'high': must be a finite number"),
        ("true", "`value` is True: must be a finite number"),
        ("NaN", "`value` is nan: must be a finite number"),
        ("Infinity", "`value` is inf: must be a finite number"),
    ],
)
def test_a_known_value_is_a_finite_number(value, told):
    item = json.loads(f'{{"config": {json.dumps(WHOLE)}, "value": {value}}}')
    with pytest.raises(BadInput) as error:
        parse([item], SPACE)
    assert error.value.problems == (f"`points[0]`: {told}",)


def test_a_known_value_needs_every_parameter(refused):
    problems = refused("- config: {lr: 0.01, depth: 2}\n  value: 0.9\n")
    assert problems == [
        f"line 1: `{key}` is missing: a known value needs the whole configuration"
        for key in ("width", "head/dropout", "norm")
    ]


def test_every_key_beside_config_is_named():
    with pytest.raises(BadInput) as error:
        parse([{"config": WHOLE, "valeu": 0.9, "lr": 0.02}], SPACE)
    assert error.value.problems == (
        "`points[0]`: `valeu` is not allowed beside `config`, only `value` is (did you mean `value`?)",
        "`points[0]`: `lr` is not allowed beside `config`, only `value` is",
    )


def test_everything_wrong_is_told_together_each_with_its_line(refused):
    problems = refused("- lr: 7\n  width: 1\n- wdith: 32\n- []\n")
    assert [problem.split(",")[0].split(" (")[0] for problem in problems] == [
        "line 1: `lr` is 7",
        "line 1: `width` is 1",
        "line 3: `wdith` is not in the search space",
        "line 4: must be a configuration",
    ]


@pytest.mark.parametrize("value", [2, 4, 8])
def test_a_quantized_integer_may_be_its_upper_end(value):
    assert parse([{"n": value}], {"n": tune.qrandint(2, 8, 2)}) == [Point({"n": value})]


@pytest.mark.parametrize("value", [10, 0, 2.0, 1, 3])
def test_what_is_no_multiple_in_the_range_is_refused(value):
    with pytest.raises(BadInput) as error:
        parse([{"n": value}], {"n": tune.qrandint(2, 8, 2)})
    assert error.value.problems == (f"`points[0]`: `n` is {value!r}, outside of (2, 8) in steps of 2",)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(BadInput, match="No such file or directory: name a YAML or JSON file"):
        read(tmp_path / "none.yaml", SPACE)


def test_from_python_the_place_is_the_index():
    with pytest.raises(BadInput, match=r"^`points\[1\]`: `lr` is 5"):
        parse([{"lr": 0.01}, {"lr": 5}], SPACE)


def test_a_parameter_called_config_is_a_parameter():
    assert parse([{"config": 2}], {"config": tune.choice([1, 2])}) == [Point({"config": 2})]


# Each file below is one that somebody has: written by json.dump, by hand, by pandas, or by an earlier sweep.


class Adam: ...


class SGD: ...


OBJECTS = {
    "lr": tune.loguniform(1e-6, 1.0),
    "layers": tune.choice([(64, 64), (128,)]),
    "optimizer": tune.choice([Adam, SGD]),
    "clip": tune.choice([1.0, float("inf"), None]),
    "bias": tune.choice([True, False]),
    "head": {"depth": tune.randint(1, 9), "norm": tune.choice(["1", "2"])},
    "epochs": 10,
    "betas": (0.9, 0.999),
}
GIVEN = {
    "lr": 1e-05,
    "layers": (128,),
    "optimizer": SGD,
    "clip": float("inf"),
    "bias": False,
    "head/depth": 3,
    "head/norm": "2",
}


def file(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text", ['[{"lr": 1e-05}]', "- lr: 1e-5\n", "- lr: 1E-5\n", "- {lr: 0.00001}\n", '[\n\t{"lr": 1e-5}]']
)
def test_a_number_without_a_dot_is_a_number(tmp_path, text):
    [point] = read(file(tmp_path, "points.yaml", text), OBJECTS)
    assert point.config == {"lr": 1e-5}
    assert type(point.config["lr"]) is float


def test_the_best_trial_of_a_sweep_is_a_point(tmp_path):
    written = Codec(OBJECTS).write_flat(GIVEN)
    assert written["optimizer"] == f"<class '{__name__}.SGD'>"
    config = {
        "lr": 1e-05, "layers": [128], "optimizer": written["optimizer"], "clip": "inf", "bias": False,
        "head": {"depth": 3, "norm": "2"}, "epochs": 10, "betas": [0.9, 0.999],
    }  # fmt: skip
    best = {
        "trial": "00003",
        "iteration": 9,
        "loss": 0.1,
        "config": config,
        "metrics": {"loss": 0.1},
        "checkpoint": None,
    }
    assert read(file(tmp_path, "best.json", json.dumps(best, indent=2)), OBJECTS) == [Point(GIVEN)]
    assert read(file(tmp_path, "best.json", json.dumps({"front": [best, best]})), OBJECTS) == [Point(GIVEN)] * 2
    assert parse([best], OBJECTS) == [Point(GIVEN)]


def test_the_table_of_a_sweep_has_points(tmp_path):
    text = (
        "trial,loss,config/lr,config/layers,config/optimizer,config/clip,config/bias,config/head/depth,config/head/norm\n"
        f"00000,0.1,1e-05,[128],<class '{__name__}.SGD'>,inf,False,3,2\n"
        '00001,0.1,0.5,"[64, 64]",Adam,,True,1,1\n'
    )
    assert read(file(tmp_path, "trials.csv", text), OBJECTS) == [
        Point(GIVEN),
        Point({
            "lr": 0.5, "layers": (64, 64), "optimizer": Adam, "clip": None, "bias": True,
            "head/depth": 1, "head/norm": "1",
        }),
    ]  # fmt: skip


def test_a_value_out_of_the_domain_is_told_with_the_line_of_the_table(tmp_path):
    with pytest.raises(BadInput) as error:
        read(file(tmp_path, "trials.csv", "trial,config/lr\n00000,0.1\n00001,7\n"), OBJECTS)
    assert error.value.problems[0].endswith("trials.csv`: line 3: `lr` is 7, outside of (1e-06, 1.0)")


@pytest.mark.parametrize(
    ("item", "config"),
    [
        ({"lr": np.float32(0.5)}, {"lr": 0.5}),
        ({"lr": np.float64(0.5), "head/depth": np.int64(3)}, {"lr": 0.5, "head/depth": 3}),
        ({"lr": 1}, {"lr": 1.0}),
        ({"head/depth": 3}, {"head/depth": 3}),
        ({"head": {"depth": 3}}, {"head/depth": 3}),
        ({"layers": [64, 64]}, {"layers": (64, 64)}),
        ({"clip": 1}, {"clip": 1.0}),
        ({"clip": np.inf}, {"clip": float("inf")}),
        ({"optimizer": "Adam"}, {"optimizer": Adam}),
        ({"optimizer": Adam}, {"optimizer": Adam}),
        ({"bias": np.bool_(True)}, {"bias": True}),
    ],
)
def test_values_are_as_the_space_has_them(item, config):
    [point] = parse([item], OBJECTS)
    assert point.config == config
    assert [type(value) for value in point.config.values()] == [type(value) for value in config.values()]


def test_parameters_in_a_list_are_given_as_a_list_or_one_by_one():
    space = {"layers": [tune.choice([8, 16]), tune.choice([32, 64])], 3: tune.choice([1, 2])}
    assert parse([{"layers": [8, 64]}, {"layers/1": 32, "3": 2}], space) == [
        Point({"layers/0": 8, "layers/1": 64}),
        Point({"layers/1": 32, "3": 2}),
    ]


def test_a_key_may_have_a_slash():
    assert parse([{"opt/lr": 0.5}], {"opt/lr": tune.uniform(0, 1)}) == [Point({"opt/lr": 0.5})]


def test_a_point_for_what_was_drawn_within_a_choice():
    space = {"opt": tune.choice([{"kind": "sgd", "lr": tune.uniform(0, 1)}, {"kind": "adam"}])}
    [one, other] = parse([{"opt": {"kind": "sgd", "lr": 0.25}}, {"opt": {"kind": "adam"}}], space)
    assert (one.config, other.config) == ({"opt": {"kind": "sgd", "lr": 0.25}}, {"opt": {"kind": "adam"}})
    with pytest.raises(BadInput, match="outside of"):
        parse([{"opt": {"kind": "sgd", "lr": 7}}], space)
