"""The variables of a job on a real cluster: they reach driver and trials, and nobody else reads them."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from raysweep.history.results import read
from tests import s3
from tests.ray_project import Project, make_project
from tests.waiting import PATIENCE_S, within

SECRETS = {"SPY_KEY": "hush-5551-hush", "SPY_TEXT": "hush-5551 = 'q' $HOME"}

# What driver and trial have is told as hashes, since a secret that a task prints is in its log.
SPY_TASK = """
import hashlib
import os

import raysweep
from ray import tune

SPACE = {"x": tune.uniform(0.0, 1.0)}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 1


def seen():
    return {name: hashlib.sha256(os.environ.get(name, "").encode()).hexdigest() for name in ("SPY_KEY", "SPY_TEXT")}


AT_IMPORT = seen()
print("driver has", sorted(seen().values()))


def train(config):
    raysweep.report({"loss": config["x"]}, state=(AT_IMPORT, seen()))
"""


def hashes() -> dict[str, str]:
    return {name: sha256(value.encode()).hexdigest() for name, value in SECRETS.items()}


def files_with(text: str, *folders: Path) -> list[str]:
    found = subprocess.run(["grep", "-rlFa", text, *map(str, folders)], capture_output=True, text=True)
    return found.stdout.splitlines()


def test_they_reach_driver_and_trials_and_are_in_no_log_and_no_file(local_cluster: Project, tmp_path: Path) -> None:
    (local_cluster.folder / "spytask.py").write_text(SPY_TASK)
    given = ("--env", "SPY_KEY", "--env", f"SPY_TEXT={SECRETS['SPY_TEXT']}")
    flags = ("--task", "spytask", "--storage", str(tmp_path), "--name", "spies", "--samples", "1")
    done = local_cluster.run("submit", "random_search", *flags, *given, seconds=PATIENCE_S, SPY_KEY=SECRETS["SPY_KEY"])
    assert done.returncode == 0, done.stdout
    assert f"driver has {sorted(hashes().values())}" in done.stdout
    assert read("spies", str(tmp_path)).load() == (hashes(), hashes())

    listed = local_cluster.python("-m", "ray.scripts.scripts", "job", "list", **local_cluster.ray_env).stdout
    assert "random_search-spies" in listed
    assert "hush-5551" not in done.stdout + local_cluster.run("status", "spies").stdout + listed
    sessions = Path(local_cluster.cluster.temp_dir)
    assert files_with("random_search-spies", sessions), "Ray's logs are not where this test looks"
    assert files_with("hush-5551", sessions, tmp_path, local_cluster.folder) == []


@pytest.mark.parametrize("command", ["submit", "rayjob"])
def test_what_no_job_can_be_given_is_told_before_anything_is_sent(command: str, local_cluster: Project) -> None:
    wrong = ("--env", "NOT_SET", "--env", "PATH=hush-5551")
    with within(10):
        refused = local_cluster.run(command, "asha", "--name", "refused", *wrong)
    assert refused.returncode == 2
    told = refused.stdout.splitlines()
    assert [line.partition(":")[2].partition(":")[0] for line in told] == [" `--env NOT_SET`", " `--env PATH`"]
    assert "hush-5551" not in refused.stdout


def test_a_cluster_without_a_token_is_given_none(local_cluster: Project, tmp_path: Path) -> None:
    other = make_project(tmp_path)
    address = {"RAY_API_SERVER_ADDRESS": local_cluster.cluster.dashboard}
    with within(10):
        refused = other.run("submit", "asha", "--env", "SPY_KEY=hush-5551", **address)
    assert refused.returncode == 2
    assert "`--env`: this cluster has no token, so whoever reaches it could read the values" in refused.stdout
    assert "hush-5551" not in refused.stdout


def test_s3_keys_of_this_shell_reach_a_job_on_this_machine(local_cluster: Project, s3_server: s3.S3Server) -> None:
    place = s3_server.new_bucket()
    flags = ("submit", "random_search", "--task", "quadratic", "--storage", place, "--name", "keys", "--dry-run")
    done = local_cluster.run(*flags, seconds=PATIENCE_S, **s3_server.env)
    assert done.returncode == 0, done.stdout
    assert "the job gets AWS_ACCESS_KEY_ID, " in done.stdout
    assert f"to {place}/keys: not started" in done.stdout
    assert s3_server.secret_key not in done.stdout
