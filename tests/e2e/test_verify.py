"""`raysweep verify` on this machine: a real sweep of the best configurations, and what it says of the sweep."""

import os
import subprocess
import sys

import pytest

from raysweep.history import results
from tests.study.finished import ITERATIONS, sweep
from tests.test_cli import VARIABLES


def verify(folder, *words):
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-m", "raysweep", "verify", *words, "--storage", "runs"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(240)
def test_the_best_are_trained_again_and_the_verdict_is_printed(tmp_path):
    best = sweep(tmp_path / "runs", "first", samples=5).best
    code, said = verify(tmp_path, "first", "--top", "2", "--seeds", "2", "--cpus-per-trial", "0.5")
    assert code == 0, said
    trials = results.read("first-verify", str(tmp_path / "runs")).state.trials.values()
    assert [trial.status for trial in trials] == ["finished"] * 4
    x, y, pace = (best["config"][name] for name in ("x", "y", "pace"))
    true = (x - 1) ** 2 + (y + 2) ** 2 + pace**ITERATIONS  # as the task computes it, without the noise of the sweep
    assert f"2 fresh seeds of it have {true:.6g} on average" in said
    assert 'does not use config["seed"]' in said
    assert "reports no metric of a test part" in said
