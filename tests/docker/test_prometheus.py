"""A sweep on the cluster of containers, in a real Prometheus on this machine with the settings for users."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.docker.conftest import DockerProject
from tests.prometheus import HELD_FLAGS, HELD_TASK, check_live, config_of, is_closed, needed, prometheus
from tests.waiting import PATIENCE_S

pytestmark = needed


def test_figures_are_those_of_the_journal_while_it_runs(docker_cluster: DockerProject, tmp_path: Path) -> None:
    (docker_cluster.folder / "tasks" / "held.py").write_text(HELD_TASK)
    command = docker_cluster.command("submit", *HELD_FLAGS, "--name", "watched")
    with (
        subprocess.Popen(
            command, cwd=docker_cluster.folder, env=docker_cluster.env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as job,
        prometheus(config_of(docker_cluster.folder, docker_cluster.cluster.dashboard), tmp_path) as running,
    ):  # fmt: skip
        check_live(running, docker_cluster.sweep("watched"), "watched")
        (head, *_) = docker_cluster.containers("head")
        (network,) = head["NetworkSettings"]["Networks"].values()
        assert is_closed(running, network["Gateway"].rpartition(".")[0])
        log, _ = job.communicate(timeout=PATIENCE_S)
    assert (job.returncode, "as it was told" in log) == (1, True), log  # one trial has failed


def test_the_log_of_a_job_outlives_its_head(docker_cluster: DockerProject) -> None:
    flags = ("--task", "quadratic", "--samples", "2", "--max-iterations", "2", "--name", "outlives")
    done = docker_cluster.run("submit", "random_search", *flags)
    assert done.returncode == 0, done.stdout
    kept = docker_cluster.run("logs", "outlives", "--storage", docker_cluster.cluster.storage)
    said, *lines = kept.stdout.splitlines()
    assert said.startswith("the log of random_search-outlives-")
    assert lines[-1] == "exit code 0"
    assert lines[:-1] == [line for line in done.stdout.splitlines() if line in set(lines)]
    assert sum(line.startswith("[") and " trial 0000" in line for line in lines) == 4
