"""`raysweep watch` and `raysweep open`: what they take, and what they refuse."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raysweep.cli import cli
from raysweep.submit import ray_jobs
from raysweep.submit.submit import Job
from tests.viewing.growing import Growing, complete, failure, result, start, suggest


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Growing:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYSWEEP_STORAGE", raising=False)
    sweep = Growing(tmp_path / "runs")
    sweep.append(
        start(), suggest(0), suggest(1), result(0, 1, 0.5), complete(0), failure(1, "no"), complete(1, "failed")
    )
    return sweep


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


@pytest.mark.parametrize("words", [["mine"], ["runs/mine"], ["mine", "--storage", "runs"]])
def test_watch_once_shows_a_sweep_of_any_storage(growing: Growing, words: list[str]) -> None:
    shown = run("watch", *words, "--once")
    assert shown.exit_code == 0
    assert "2 of 2 ended · 1 finished · 1 failed" in shown.output
    assert "\x1b" not in shown.output


def test_watch_ends_with_the_exit_code_of_the_sweep(growing: Growing) -> None:
    growing.append({"type": "end", "status": "ended"})
    assert run("watch", "mine").exit_code == 1
    assert run("watch", "mine", "--once").exit_code == 1


def test_a_sweep_whose_job_is_on_the_way_is_waited_for(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(growing.storage) / "mine"
    away = place.with_name("away")
    growing.append({"type": "end", "status": "ended"})
    place.rename(away)

    def jobs(project: Path, name: str) -> list[Job]:
        """Of the cluster, on which the sweep begins after the second look."""
        asked.append(name)
        if len(asked) == 2:
            away.rename(place)
        return [Job("asha-mine-1", "RUNNING", "mine", "asha", "digits", 0.0, None, None, None)]

    asked: list[str] = []
    monkeypatch.setattr(ray_jobs, "jobs", jobs)
    watched = run("watch", "mine")
    assert asked == ["mine", "mine"]
    assert watched.exit_code == 1, "that of the sweep"
    assert watched.output.count("mine has not begun yet") == 1
    assert "2 of 2 ended" in watched.output


def test_a_sweep_whose_job_has_ended_is_not_waited_for(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Job("asha-mime-1", "FAILED", "mime", "asha", "digits", 0.0, 1.0, 2, None)
    monkeypatch.setattr(ray_jobs, "jobs", lambda project, name: [ended])
    assert run("watch", "mime").exit_code == 2


@pytest.mark.parametrize("command", ["watch", "open"])
def test_an_unknown_sweep_is_refused(growing: Growing, command: str) -> None:
    refused = run(command, "mime")
    assert refused.exit_code == 2
    assert refused.output.startswith("error: there is no sweep `mime` in ")
    two = run(command, "runs/mine", "--storage", "runs")
    assert (two.exit_code, two.output) == (2, "error: `runs/mine` has its own storage: leave out `--storage runs`\n")


def test_open_refuses_a_port_that_is_taken(growing: Growing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run("open", "mine", "--port", port)
    assert refused.exit_code == 2
    assert refused.output.startswith(f"error: `--port` {port} is in use by ")
