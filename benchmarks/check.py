"""How well `raysweep check` predicts the wall time of a sweep: it is asked, then the sweep is run, so many times.

Printed for each run: the seconds that were predicted, with their interval, those that the command took, and the error;
at last the largest error. Both commands have the same flags, but for the seed, which differs from run to run.

    python benchmarks/check.py --task mnist --strategy random_search --runs 5
    python benchmarks/check.py --task digits --runs 3 --output check.json -- --samples 20 --concurrency 2
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[1]
ALLOWED = 0.25  # the error that the kit promises to stay below
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
AMOUNT = r"([\d.e+]+) (s|min|h|d)"
TIME = re.compile(rf"^time +{AMOUNT} \[{AMOUNT}, {AMOUNT}\]", re.MULTILINE)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--task", default="mnist", show_default=True)
@click.option("--strategy", default="asha", show_default=True)
@click.option("--runs", default=5, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write all figures there, as JSON.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def main(task: str, strategy: str, runs: int, output: Path | None, flags: tuple[str, ...]) -> None:
    """Predicts and measures; exits with 1 if one error is larger than allowed."""
    found = []
    for seed in range(runs):
        with tempfile.TemporaryDirectory(prefix="raysweep-check-") as storage:
            job = [sys.executable, f"jobs/{strategy}.py", "--task", task, "--seed", str(seed), "--storage", storage]
            found.append(_once([*job, *flags], seed))
        click.echo(
            "run {seed}: {predicted:.1f} s [{low:.1f}, {high:.1f}], took {took:.1f} s: {error:+.1%}".format(**found[-1])
        )
    largest = max(abs(each["error"]) for each in found)
    click.echo(f"largest error {largest:.1%}, allowed {ALLOWED:.0%}")
    if output is not None:
        output.write_text(
            json.dumps({"task": task, "strategy": strategy, "flags": flags, "runs": found}, indent=2) + "\n"
        )
    sys.exit(largest > ALLOWED)


def _once(job: list[str], seed: int) -> dict[str, Any]:
    began = time.monotonic()
    told = subprocess.run([*job, "--dry-run"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    checked = time.monotonic()
    subprocess.run(job, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    took = time.monotonic() - checked
    words = TIME.search(told)
    assert words, told
    pairs = zip(words.groups()[::2], words.groups()[1::2], strict=True)
    predicted, low, high = (float(amount) * UNITS[unit] for amount, unit in pairs)
    return {
        "seed": seed, "predicted": predicted, "low": low, "high": high, "took": took,
        "error": predicted / took - 1, "check": checked - began, "told": told,
    }  # fmt: skip


if __name__ == "__main__":
    main()
