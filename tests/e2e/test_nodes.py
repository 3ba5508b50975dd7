"""A cluster of two nodes: a folder that only one of them has is no storage for it, and one of them may be full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep.clusters.shared import processes
from raysweep.history import results
from raysweep.storage import open_storage
from tests.ray_project import ROOT, clean_environment, free_ports
from tests.waiting import PATIENCE_S

HIDDEN, SHARED = "hidden", "shared"
# A mount namespace of its own, in which another, small disk lies over one folder: as on another machine.
ELSEWHERE = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m none "$0" && exec "$@"']
RAY = [sys.executable, "-m", "ray.scripts.scripts", "start"]


def can_unshare() -> bool:
    try:
        return subprocess.run([*ELSEWHERE, "/mnt", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder, of which the second node does not see `hidden`, and the environment that joins the cluster."""
    if not can_unshare():
        pytest.skip("this machine gives its users no mount namespaces")
    folder, temporary = tmp_path_factory.mktemp("nodes"), tempfile.mkdtemp(prefix="raysweep-", dir="/tmp")
    for name in (HIDDEN, SHARED):
        (folder / name).mkdir()
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(uuid.uuid4().hex * 2)
    mark = uuid.uuid4().hex
    env = clean_environment(folder, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(folder / "token"))
    env |= {"RAY_USAGE_STATS_ENABLED": "0", "RAYSWEEP_CLUSTER_ID": mark, "SPT_NOENV": "1"}
    (port,) = free_ports(1)
    try:
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={temporary}"]
        output = begin([*RAY, *head, "--num-cpus=1"], env)
        address = next(word for word in output.replace("'", " ").split() if word.endswith(f":{port}"))
        begin([*ELSEWHERE, str(folder / HIDDEN), *RAY, f"--address={address}", "--num-cpus=1"], env)
        yield folder, env | {"RAY_ADDRESS": address}
    finally:
        processes.end(mark)
        shutil.rmtree(temporary, ignore_errors=True)


def begin(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dry_run(env: dict[str, str], storage: str) -> subprocess.CompletedProcess[str]:
    job = [sys.executable, "jobs/asha.py", "--task", "quadratic", "--storage", storage, "--dry-run"]
    return subprocess.run(
        job,
        cwd=ROOT,
        env=env | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_folder_of_one_node_is_refused_and_a_shared_one_is_not(two_nodes: tuple[Path, dict[str, str]]) -> None:
    folder, env = two_nodes
    hidden = str(folder / HIDDEN / "runs")
    refused = dry_run(env, hidden)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    (told,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert told == (
        f"error: `--storage {hidden}`: a folder of this node, which 1 other node(s) of the cluster do not see:"
        " use s3://bucket/prefix, or a folder that all nodes mount"
    )
    assert open_storage(hidden).list() == []
    accepted = dry_run(env, str(folder / SHARED / "runs"))
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr


FULL = """
from pathlib import Path
import raysweep
from ray import tune
from tests.waiting import until

SPACE, METRIC, MODE, MAX_ITERATIONS = {"x": tune.uniform(0.0, 1.0)}, "loss", "min", 2
SCRATCH, SEEN = Path("%s"), Path("%s")


def train(config):
    if SCRATCH.is_mount():
        SEEN.touch()
    until(SEEN.exists, "a trial on the second node")
    for step in raysweep.iterations():
        with Path(SCRATCH, "scratch").open("wb") as file:
            file.write(bytes(2 * 2**20))
        raysweep.report({"loss": config["x"]}, state=step)
"""


def test_a_trial_on_a_node_without_space_goes_on_elsewhere(two_nodes: tuple[Path, dict[str, str]]) -> None:
    folder, env = two_nodes
    (folder / SHARED / "writes.py").write_text(FULL % (folder / HIDDEN, folder / SHARED / "seen"))
    storage = str(folder / SHARED / "runs")
    job = [sys.executable, str(ROOT / "jobs" / "random_search.py"), "--task", "writes", "--samples", "4"]
    done = subprocess.run(
        [*job, "--storage", storage, "--name", "full"],
        cwd=folder / SHARED,
        env=env | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder / SHARED}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = results.read("full", storage).state.trials.values()
    assert [trial.status for trial in trials] == ["finished"] * 4
    kinds = [kind for trial in trials for kind in trial.kinds]
    assert kinds == ["full"], "the first trial there finds it, and no other one is sent there"
    assert "has no space left, which is no failure of the trial" in done.stdout + done.stderr
