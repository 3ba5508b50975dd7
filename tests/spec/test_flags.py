"""Flags: the frozen list, help for each, and everything that is wrong told at once."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import raysweep
from raysweep.spec.flags import Flags, checked, command, default_name, flag_name, name_problems, nearest
from raysweep.spec.sweep import strategies, strategy

FROZEN = [
    "--task",
    "--data",
    "--name",
    "--storage",
    "--samples",
    "--max-iterations",
    "--metric",
    "--mode",
    "--points",
    "--warm-start",
    "--seed",
    "--cpus-per-trial",
    "--gpus-per-trial",
    "--workers-per-trial",
    "--concurrency",
    "--max-failures",
    "--trial-timeout",
    "--report-timeout",
    "--cleanup-timeout",
    "--nan",
    "--time-budget",
    "--cost-budget",
    "--resume",
    "--retry",
    "--repair",
    "--show-output",
    "--dry-run",
]


@dataclasses.dataclass(frozen=True)
class Knobs:
    grace_period: int = raysweep.knob(1, "r: iterations.")
    fraction: float = raysweep.knob(0.5, "A number.")
    scale: str = raysweep.knob("log", "log or linear.", ("log", "linear"))


@dataclasses.dataclass(frozen=True)
class Limited:
    grace_period: int = raysweep.knob(1, "r: iterations.", ge=1)
    eta: float = raysweep.knob(3.0, "A factor.", gt=1, le=9)


def parse(*arguments):
    """What the body of a job gets: flags, knobs, problems."""
    got = []
    job = command("A job.", Knobs, lambda *parts: got.append(parts), "python jobs/x.py")
    done = CliRunner().invoke(job, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return got[0]


def squeezed(text):
    return "".join(text.split())


def test_the_list_of_flags_is_frozen():
    assert [flag_name(field) for field in dataclasses.fields(Flags)] == FROZEN


@pytest.mark.parametrize("name", strategies())
def test_every_flag_and_knob_of_a_job_is_explained_in_its_help(name):
    chosen = strategy(name)
    job = command(chosen.doc, chosen.knobs, lambda *_: None, name)
    shown = CliRunner().invoke(job, ["--help"])
    assert shown.exit_code == 0
    for field in (*dataclasses.fields(Flags), *dataclasses.fields(chosen.knobs)):
        assert len(field.metadata["help"]) > 10
        assert f" {flag_name(field)} " in shown.output
        assert squeezed(field.metadata["help"]) in squeezed(shown.output)


@pytest.mark.parametrize("name", strategies())
def test_no_knob_has_the_name_of_a_shared_flag(name):
    shared = {field.name for field in dataclasses.fields(Flags)}
    assert not shared & {field.name for field in dataclasses.fields(strategy(name).knobs)}


def test_nothing_given_means_the_defaults():
    assert parse() == (Flags(), Knobs(), [])


def test_values_have_their_types():
    flags, knobs, problems = parse(
        *[
            "--task",
            "svm",
            "--data",
            "d",
            "--samples",
            "3",
            "--mode",
            "min",
            "--points",
            "p.yaml",
            "--cpus-per-trial",
            "0.5",
            "--concurrency",
            "2",
        ],
        *[
            "--trial-timeout",
            "9",
            "--time-budget",
            "1e3",
            "--resume",
            "auto",
            "--dry-run",
            "--grace-period",
            "4",
            "--fraction",
            "1",
        ],
    )
    assert problems == []
    assert flags == Flags(
        task="svm",
        data="d",
        samples=3,
        mode="min",
        points=Path("p.yaml"),
        cpus_per_trial=0.5,
        concurrency=2,
        trial_timeout=9.0,
        time_budget=1000.0,
        resume="auto",
        dry_run=True,
    )
    assert isinstance(flags.trial_timeout, float)
    assert knobs == Knobs(grace_period=4, fraction=1.0)


def test_earlier_sweeps_may_be_several():
    flags, _, problems = parse("--warm-start", "first", "--warm-start", "s3://bucket/runs/second")
    assert (flags.warm_start, problems) == (("first", "s3://bucket/runs/second"), [])
    assert checked(Flags, {"warm_start": ["first"]}) == (Flags(warm_start=("first",)), [])
    assert checked(Flags, {"warm_start": "first"}) == (Flags(), ["`--warm-start first`: must be a tuple"])


def test_everything_wrong_is_collected_and_the_rest_is_kept():
    flags, knobs, problems = parse(
        *["--samples", "many", "--smaples", "3", "--seed", "1.5", "--mode", "best", "--resume", "sometimes"],
        *["--grace-period", "x", "--scale", "cubic", "--fraction=half", "--max-iteration=4", "--name", "kept"],
    )
    assert (flags, knobs) == (Flags(name="kept"), Knobs())
    for flag, value in {
        "--samples": "many",
        "--seed": "1.5",
        "--mode": "best",
        "--resume": "sometimes",
        "--grace-period": "x",
        "--scale": "cubic",
        "--fraction": "half",
    }.items():
        assert len([p for p in problems if p.startswith(f"`{flag} {value}`: must be ")]) == 1, flag
    assert any(p.startswith("`--smaples` is not a flag") and "did you mean `--samples`?" in p for p in problems)
    assert any(p.startswith("`--max-iteration` is") and "did you mean `--max-iterations`?" in p for p in problems)
    assert len(problems) == 9


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("samples", 0, "`--samples 0`: must be at least 1"),
        ("samples", -3, "`--samples -3`: must be at least 1"),
        ("samples", "many", "`--samples many`: must be a whole number"),
        ("samples", 1.5, "`--samples 1.5`: must be a whole number"),
        ("max_iterations", 0, "`--max-iterations 0`: must be at least 1"),
        ("concurrency", 0, "`--concurrency 0`: must be at least 1"),
        ("max_failures", -1, "`--max-failures -1`: must be at least 0"),
        ("cpus_per_trial", -1.0, "`--cpus-per-trial -1.0`: must be at least 0"),
        ("workers_per_trial", 0, "`--workers-per-trial 0`: must be at least 1"),
        ("gpus_per_trial", -0.5, "`--gpus-per-trial -0.5`: must be at least 0"),
        ("trial_timeout", 0.0, "`--trial-timeout 0.0`: must be more than 0"),
        ("time_budget", -5.0, "`--time-budget -5.0`: must be more than 0"),
        ("mode", "best", "`--mode best`: must be 'max' or 'min'"),
        ("cpus_per_trial", math.inf, "`--cpus-per-trial inf`: must be a finite number"),
        ("gpus_per_trial", math.nan, "`--gpus-per-trial nan`: must be a finite number"),
        ("time_budget", math.nan, "`--time-budget nan`: must be a finite number"),
        ("seed", -1, "`--seed -1`: must be at least 0"),
        ("seed", 2**32, "`--seed 4294967296`: must be at most 4294967295"),
        ("name", 7, "`--name 7`: must be text"),
        ("seed", None, "`--seed None`: must be a whole number"),
        ("seed", True, "`--seed True`: must be a whole number"),
        ("nan", None, "`--nan None`: must be 'stop', 'fail' or 'worst'"),
        ("dry_run", None, "`--dry-run None`: must be True or False"),
        ("metric", "", "`--metric `: must not be empty"),
        ("storage", "", "`--storage `: must not be empty"),
        ("samples", 10**30, f"`--samples {10**30}`: must be at most 1000000000"),
        ("max_iterations", 10**30, f"`--max-iterations {10**30}`: must be at most 1000000000"),
        ("report_timeout", 1e300, "`--report-timeout 1e+300`: must be at most 1000000000"),
        ("cleanup_timeout", 1e300, "`--cleanup-timeout 1e+300`: must be at most 1000000000"),
    ],
)
def test_a_wrong_value_is_reported_with_its_flag(flag, value, told):
    assert checked(Flags, {flag: value}) == (Flags(), [told])


@pytest.mark.parametrize(
    ("knob", "value", "told"),
    [("grace_period", 0, "`--grace-period 0`: must be at least 1"), ("eta", 1, "`--eta 1`: must be more than 1")],
)
def test_so_is_a_wrong_knob(knob, value, told):
    assert checked(Limited, {knob: value}) == (Limited(), [told])
    assert checked(Limited, {"grace_period": "2", "eta": 9}) == (Limited(2, 9.0), [])


@dataclasses.dataclass(frozen=True)
class Automatic:
    population: int = raysweep.knob(0, "Trials; 0: automatic.", ge=2)
    grace_period: int = raysweep.knob(1, "r: iterations.", le="max_iterations")


@pytest.mark.parametrize(("given", "told"), [(0, []), ("0", []), (2, []), (1, ["must be at least 2"])])
def test_a_default_is_allowed_outside_of_the_limits(given, told):
    _, problems = checked(Automatic, {"population": given})
    assert problems == [f"`--population {given}`: {each}" for each in told]


def test_a_limit_of_the_sweep_waits_for_the_sweep():
    assert checked(Automatic, {"grace_period": "7"}) == (Automatic(grace_period=7), [])


SINGLE = np.dtype("float32")


@dataclasses.dataclass(frozen=True)
class Plain:
    kind: np.dtype = SINGLE
    eta: float = 3.0


def test_knobs_of_a_notebook_may_be_a_plain_dataclass():
    assert checked(Plain, {"kind": np.dtype("float64"), "eta": 2}) == (Plain(np.dtype("float64"), 2.0), [])


def test_numbers_of_numpy_are_numbers():
    flags, problems = checked(Flags, {"samples": np.int64(3), "cpus_per_trial": np.float32(0.5)})
    assert (flags, problems) == (Flags(samples=3, cpus_per_trial=0.5), [])
    assert type(flags.samples) is int


def test_a_choice_names_what_is_allowed():
    _, _, [problem] = parse("--resume", "sometimes")
    assert all(f"'{allowed}'" in problem for allowed in ("never", "auto", "must"))


def test_a_misspelt_knob_is_matched_too():
    _, _, [problem] = parse("--grace-peroid", "2")
    assert "did you mean `--grace-period`?" in problem


def test_a_stray_word_is_no_flag():
    _, _, [problem] = parse("asha")
    assert "`asha` is not a flag" in problem


@pytest.mark.parametrize(("word", "match"), [("digit", " (did you mean `digits`?)"), ("zzz", "")])
def test_nearest(word, match):
    assert nearest(word, ["digits", "svm"]) == match


@pytest.mark.parametrize("name", ["a/b", ".", "..", ".hidden", " ", "", "a b", "a ", "/abs", "-x", "a\n"])
def test_a_name_is_one_folder_of_the_storage(name):
    [problem] = name_problems(name)
    assert problem.startswith(f"`--name {name}`: a name is one folder")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("n" * 300, "`--name nnnnnnnnnnnnnnnnnnnn…`: has 300 bytes, and may have at most 200: use a shorter one"),
        ("é" * 128, "`--name éééééééééééééééééééé…`: has 256 bytes, and may have at most 200: use a shorter one"),
    ],
)
def test_a_name_may_be_too_long_for_a_folder(name, told):
    assert name_problems(name) == [told]


@pytest.mark.parametrize("task", ["t" * 300, "my." + "é" * 300, "a task/of mine", "./tasks/digits.py", "-x", "…", "."])
def test_a_name_that_is_made_is_one_that_is_allowed(task):
    name = default_name(task, "successive_halving")
    assert name_problems(name) == []
    assert "-successive_halving-20" in name


@pytest.mark.parametrize("name", [None, "a", "mnist-asha_1", "v1.2", "n" * 200])
def test_names_that_are_folders(name):
    assert name_problems(name) == []
