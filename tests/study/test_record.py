"""A table of learning curves has what the sweeps' journals have, and says what is not in it."""

import math

import pandas as pd
import pytest
from ray import tune

from raysweep.errors import BadInput
from raysweep.loop.simulation import Fault, Step
from raysweep.study.record import record
from raysweep.study.table import load
from tests.study import finished
from tests.study.finished import ITERATIONS, TASK, noisy, sweep


def test_each_iteration_of_each_trial_is_a_row_with_its_own_numbers(tmp_path):
    sweeps = [sweep(tmp_path, f"seed-{seed}", samples=4, trial_seed=seed) for seed in (5, 7)]
    table, left_out = record(sweeps, TASK.space, TASK.mutable)
    assert not left_out
    rows = table.frame
    assert len(rows) == 2 * 4 * ITERATIONS
    assert sorted(rows["seed"].unique()) == [5, 7]
    assert rows["configuration"].nunique() == 4  # the same draws with each seed
    for row in rows.to_dict("records"):
        config = {name: row[f"config/{name}"] for name in ("x", "y", "pace")}
        step = noisy("", {**config, "seed": row["seed"]}, row["iteration"], None)
        assert row["metric/loss"] == step.metrics["loss"]
        assert row["metric/other"] == row["iteration"]
        assert row["seconds"] == pytest.approx(step.seconds)


def test_pandas_opens_the_file_with_all_that_is_known(tmp_path):
    table, path = finished.recorded(tmp_path, samples=3, seeds=2), tmp_path / "curves.parquet"
    table.save(path)
    plain = pd.read_parquet(path)
    pd.testing.assert_frame_equal(plain, table.frame, check_dtype=False)
    assert plain.attrs["metric"] == "loss"
    assert plain.attrs["space"]["x"] == {"uniform": [-5.0, 5.0]}
    assert plain.attrs["sweeps"] == ["seed-0", "seed-1"]
    again = load(str(path))
    assert (again.metric, again.mode, again.max_iterations) == ("loss", "min", ITERATIONS)
    assert again.about["mutable"] == ["x", "y"]


def test_trials_that_are_no_whole_curve_are_left_out_and_counted(tmp_path):
    stopped = sweep(tmp_path, "asha", "asha", samples=9)
    population = sweep(tmp_path, "pbt", "pbt", samples=8)
    failed = sweep(tmp_path, "failed", samples=3, faults={("00001", 3): Fault(RuntimeError("broken"))}, seed=3)
    table, left_out = record([stopped, population, failed], TASK.space)
    assert left_out["ended early (stopped)"] == stopped.state.count("stopped") > 0
    assert left_out["went on from another trial"] == sum(bool(t.donors) for t in population.state.trials.values()) > 0
    assert left_out["ended early (failed)"] == 1
    assert (table.frame.groupby("configuration").size() == ITERATIONS).all()


def test_a_curve_that_diverged_ends_with_it(tmp_path):
    def outcome(trial, config, iteration, state):
        return Step({"loss": math.nan if (trial, iteration) == ("00001", 2) else 1.0})

    table, left_out = record([sweep(tmp_path, "diverged", samples=2, outcome=outcome)], TASK.space)
    assert not left_out
    curve = table.frame[table.frame["configuration"] == 1]["metric/loss"].tolist()
    assert curve[0] == 1.0
    assert math.isnan(curve[1])
    assert len(curve) == 2


def test_the_same_configuration_with_the_same_seed_is_there_once(tmp_path):
    table, left_out = record([sweep(tmp_path, name, samples=3) for name in ("one", "two")], TASK.space)
    assert left_out == {"same configuration and seed as another": 3}
    assert len(table.frame) == 3 * ITERATIONS


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"task": "digits"}, "`other` has the task digits, and `one` has quadratic"),
        ({"max_iterations": 9}, "`other` has the max_iterations 9"),
        ({"metrics": ["loss", "other"], "modes": ["min", "max"]}, "several objectives"),
        ({"space": {"x": "Float (0, 1)"}}, "drawn from another space"),
    ],
)
def test_sweeps_of_two_kinds_are_refused(tmp_path, spec, said):
    one, other = sweep(tmp_path, "one", samples=2), sweep(tmp_path, "other", samples=2, spec=spec)
    with pytest.raises(BadInput, match=said):
        record([one, other], TASK.space)


def test_without_a_whole_curve_there_is_no_table(tmp_path):
    def outcome(trial, config, iteration, state):
        return Step({"loss": 1.0}) if iteration < 3 else None

    with pytest.raises(BadInput, match=r"did all 6 iterations \(2 ended early \(finished\)\)"):
        record([sweep(tmp_path, "short", samples=2, outcome=outcome)], TASK.space)


def test_choices_of_several_types_come_back_as_they_were(tmp_path):
    space = {"odd": tune.choice([1, 2.5, "a", None, True]), "even": tune.choice(["b", "c"])}
    from raysweep.study import table as tables

    written = [{"odd": value, "even": "b"} for value in (1, 2.5, "a", None, True)]
    columns = tables.columns(space, written)
    assert columns["config/odd"] == ["1", "2.5", '"a"', "null", "true"]
    assert columns["config/even"] == ["b"] * 5
    back = [tables.cell(space["odd"], each) for each in columns["config/odd"]]
    assert [(type(each), each) for each in back] == [(type(each["odd"]), each["odd"]) for each in written]


@pytest.mark.parametrize("content", [b"no table", None])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "file.parquet"
    if content is None:
        pd.DataFrame({"a": [1]}).to_parquet(path)
    else:
        path.write_bytes(content)
    with pytest.raises(BadInput, match="raysweep record"):
        load(str(path))


def test_a_table_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(BadInput, match="no shipped table"):
        load("nowhere")
