"""A wrong flag is told before a job is sent, from the strategy's file alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.submit.flag_check import problems

ROOT = Path(__file__).parents[2]
ASHA = ROOT / "jobs" / "asha.py"
STRATEGIES = sorted((ROOT / "jobs").glob("[!_]*.py"))
KNOBS = """
import a_library_that_is_not_here
import raysweep
class Knobs:
    width: int = raysweep.knob(1, "")
    fast: bool = raysweep.knob(False, "")
    both = 3
"""
MAIN = "raysweep.main(tune_config, Knobs)"


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda path: path.stem)
def test_right_flags_of_each_strategy_pass_and_a_wrong_one_does_not(strategy: Path) -> None:
    assert problems(strategy, ["--task", "digits", "--samples", "3", "--dry-run"]) == []
    (told,) = problems(strategy, ["--sampels", "3"])
    assert told == "`--sampels` is not a flag of this job (did you mean `--samples`?); see --help"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--samples", "0", "--grace-perio", "1"], ["`--grace-perio` is not a flag", "`--samples 0`: must be at"]),
        (["--nan", "never"], ["`--nan never`: must be 'stop', 'fail' or 'worst'"]),
        (["--samples"], ["'--samples' requires an argument"]),
        (["--dry-run=yes"], ["'--dry-run' does not take a value"]),
        (["three"], ["`three` is not a flag"]),
        (["--grace-period", "3", "--help"], []),
    ],
)
def test_it_says_what_the_job_would_say(arguments: list[str], told: list[str]) -> None:
    found = problems(ASHA, arguments)
    assert len(found) == len(told)
    assert all(start in problem for start, problem in zip(told, found, strict=True))


def test_the_file_is_read_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(KNOBS + MAIN)
    assert problems(tmp_path / "own.py", ["--width", "3", "--fast"]) == []
    (told,) = problems(tmp_path / "own.py", ["--both", "3"])
    assert "`--both` is not a flag of this job" in told


@pytest.mark.parametrize(
    "text",
    [
        KNOBS.replace("Knobs:", "Knobs(Others):") + MAIN,  # they have more than is seen here
        "from others import Knobs\n" + MAIN,
        "raysweep.main(tune_config, knobs=Knobs)",
        "import click",  # a job that is no strategy
        "raysweep.main(tune_config, Knobs) if x else raysweep.main(tune_config)",
        "not Python",
    ],
)
def test_a_file_that_does_not_show_its_knobs_is_for_the_job_to_check(text: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(text)
    assert problems(tmp_path / "own.py", ["--anything", "3"]) == []
    assert problems(tmp_path / "missing.py", ["--anything", "3"]) == []
