"""`raysweep advise`: what it says to people and to programs, and what it refuses."""

import json

import pytest
from click.testing import CliRunner

from raysweep.advice.rules import STRATEGIES
from raysweep.cli import cli


def call(*words, code=0):
    done = CliRunner().invoke(cli, ["advise", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output


def advice(*words):
    return json.loads(call("--task", "quadratic", "--json", *words))


def test_people_are_told_the_command_the_reason_the_evidence_and_what_was_rejected():
    said = call("--task", "quadratic", "--budget", "40 trials", "--workers", 4)
    found = advice("--budget", "40 trials", "--workers", 4)
    assert found["command"] in said
    assert found["reason"] in " ".join(said.split())
    assert all(evidence in said for evidence in found["evidence"])
    assert all(name in said for name in STRATEGIES)
    assert "40 complete trials of 10 iterations, 4 at a time; 2 numbers and 1 choices" in " ".join(said.split())


def test_programs_get_all_of_it():
    found = advice("--budget", "40", "--workers", 4)
    assert found["strategy"] == found["command"].split()[2]
    assert found["command"] == f"raysweep run {found['strategy']} --task quadratic {found['flags']}"
    assert found["rejected"].keys() == set(STRATEGIES) - {found["strategy"]}
    assert found["illegal"] == {}
    assert found["case"]["trials"] == 40


@pytest.mark.parametrize(
    ("words", "trials"),
    [
        ((), 20),
        (("--budget", "12"), 12),
        (("--budget", "12 trials"), 12),
        (("--budget", "155 epochs"), 15.5),
        (("--budget", "60 epochs", "--max-iterations", 5), 12),
        (("--time", 600, "--trial-seconds", 50, "--workers", 2), 24),
    ],
)
def test_every_kind_of_budget_is_counted_in_complete_trials(words, trials):
    assert advice(*words)["case"]["trials"] == trials


def test_what_the_user_wants_decides():
    assert advice("--goal", "best", "--budget", "30", "--workers", 30)["strategy"] == "pbt"
    both = advice("--second-metric", "time_total_s")
    assert (both["strategy"], both["command"].split()[-2:]) == ("multi_objective", ["--second-metric", "time_total_s"])
    assert advice("--max-iterations", 1, "--budget", "8", "--workers", 8)["strategy"] == "random_search"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--budget", "many"), "`--budget many`: must be a number with its unit"),
        (("--budget", "3 hours"), "`--budget 3 hours`: must be a number with its unit"),
        (("--budget", "0"), "`--budget 0`: a complete trial has 10 iterations: give at least that"),
        (("--budget", "9 epochs"), "`--budget 9 epochs`: a complete trial has 10 iterations"),
        (("--time", "60"), "`--time 60`: add --trial-seconds"),
        (("--time", "60", "--trial-seconds", "61", "--workers", "1"), "`--time 60`: not one trial of 61 s"),
        (("--trial-seconds", "6"), "`--trial-seconds 6`: is for `--time`"),
        (("--budget", "5", "--time", "6"), "`--budget 5` and `--time 6` are both a budget"),
        (("--task", "quadratik"), "`--task quadratik`: there is no such module"),
    ],
)
def test_bad_input_is_one_sentence(words, told):
    assert f"error: {told}" in call("--task", "quadratic", *words, code=2)
