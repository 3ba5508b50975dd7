"""record, simulate and compare as commands: what they print and write, and what they refuse."""

import json
import re

import pandas as pd
import pytest
from click.testing import CliRunner

from raysweep.cli import cli
from raysweep.history import results
from tests.study.finished import ITERATIONS, sweep


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    for seed in (0, 1):
        sweep(folder, f"curves-{seed}", samples=10, trial_seed=seed)
    sweep(folder, "population", "pbt", samples=8)
    for seed in range(3):
        sweep(folder, f"random-{seed}", samples=6, seed=seed)
        sweep(folder, f"tpe-{seed}", "tpe", samples=5, seed=seed)
    return folder


@pytest.fixture(scope="module")
def table(storage):
    path = storage.parent / "curves.parquet"
    said = call("record", "curves-*", "--storage", storage, "--output", path)
    assert "10 configurations, 20 curves, 120 iterations" in said
    assert "by leave-one-out" in said
    return path


def call(*words, code=0):
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


def test_recorded_curves_are_simulated_and_all_figures_written(table, tmp_path):
    where = tmp_path / "figures.json"
    words = ["simulate", table, "--strategy", "random_search,asha --grace-period 2", "--seeds", 3, "--workers", 2]
    said = call(*words, "--target", 1.5, "--output", where)
    assert "target 1.5" in said
    written = json.loads(where.read_text())
    assert {row["strategy"] for row in written["strategies"]} == {"random_search", "asha --grace-period 2"}
    assert written["sentence"] in said
    assert written["lookup"]["noise"] > 0
    assert written["pairs"][0]["seeds"] == 3
    assert json.loads(where.read_text()) == written
    csv = tmp_path / "figures.csv"
    call(*words, "--output", csv)
    assert len(pd.read_csv(csv)) == 2


def test_finished_sweeps_are_compared_at_equal_iterations(storage, tmp_path):
    where = tmp_path / "figures.json"
    said = call("compare", "random-*", "tpe-*", "--storage", storage, "--output", where)
    assert f"after {5 * ITERATIONS} iterations of all trials" in said
    written = json.loads(where.read_text())
    for row in written["strategies"]:
        name = {"random_search": "random", "tpe": "tpe"}[row["strategy"]]
        best = []
        for seed in range(3):
            events = results.read(f"{name}-{seed}", str(storage)).state.events
            values = [event["metrics"]["loss"] for event in events if event["type"] == "result"]
            best.append(min(values[: 5 * ITERATIONS]))
        assert row["mean"] == pytest.approx(sum(best) / 3)
        assert row["seeds"] == 3


def test_a_single_run_each_is_no_evidence(storage):
    assert "one run each says nothing" in call("compare", "random-0", "tpe-0", "--storage", storage)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("simulate", "nowhere"), "no shipped table"),
        (("simulate", "{table}", "--strategy", "nothing"), "is not a strategy"),
        (("simulate", "{table}", "--output", "figures.txt"), "must end in .csv or .json"),
        (("compare", "nothing", "--storage", "{storage}"), "no sweep in"),
        (("verify", "nothing", "--storage", "{storage}"), "there is no sweep `nothing`"),
        (("verify", "population", "--storage", "{storage}"), "that of a schedule"),
        (("record", "curves-0", "--storage", "{storage}", "--output", "/nowhere/at/all"), "cannot be written"),
    ],
)
def test_bad_input_is_told_and_nothing_is_done(storage, table, words, said):
    words = [word.format(table=table, storage=storage) for word in words]
    output = call(*words, code=2)
    assert output.startswith("error: ")
    assert said in re.sub(r"\s+", " ", output)
