"""Which jobs are brought back, and under which name; the cluster is a list of what it knows."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raysweep.history import resubmit_ticket
from raysweep.history.resubmit_ticket import Ticket
from raysweep.storage import Storage, open_storage
from raysweep.submit import resubmitter

LONG_AGO = 1000.0


class Cluster:
    """Ray's client, as far as the resubmitter uses it."""

    def __init__(self, **jobs: str) -> None:
        self.jobs, self.submitted = [], []
        for job, status in jobs.items():
            self.add(job.replace("_", "-"), status)

    def add(self, job: str, status: str, exit_code: int | None = None) -> None:
        self.jobs.append(
            SimpleNamespace(
                submission_id=job, status=SimpleNamespace(value=status), metadata={}, start_time=1, end_time=None,
                driver_exit_code=exit_code, error_type=None,
            )
        )  # fmt: skip

    def list_jobs(self) -> list[Any]:
        return self.jobs

    def submit_job(self, *, submission_id: str, **rest: Any) -> None:
        if any(job.submission_id == submission_id for job in self.jobs):
            raise RuntimeError(f"status code 400: Job with submission_id {submission_id} already exists.")
        self.submitted.append((submission_id, rest))
        self.add(submission_id, "PENDING")


@pytest.fixture
def place(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


def leave(place: Storage, *jobs: str, when: float = LONG_AGO) -> None:
    for job in jobs:
        left = Ticket(job, "python jobs/asha.py --resume auto", {"working_dir": "s3://x/1.zip"}, {"name": "n"}, when)
        place.put(f"{job}/{resubmit_ticket.FILE_NAME}", json.dumps(asdict(left)).encode())


def look(place: Storage, cluster: Any) -> tuple[list[str], list[str]]:
    """What was submitted, and whose notes are there then."""
    resubmitter.look(place, lambda: cluster)
    return [job for job, _ in cluster.submitted], [each.id for each in resubmit_ticket.read(place)]


def test_a_job_that_the_cluster_does_not_know_is_submitted_as_its_next_life(place: Storage) -> None:
    leave(place, "a")
    cluster = Cluster()
    assert look(place, cluster) == (["a-life2"], ["a"])
    assert cluster.submitted[0][1] == {
        "entrypoint": "python jobs/asha.py --resume auto",
        "runtime_env": {"working_dir": "s3://x/1.zip"},
        "metadata": {"name": "n"},
    }
    assert look(place, cluster) == (["a-life2"], ["a"])  # it is there, and has left no note yet
    leave(place, "a-life2")
    assert look(place, cluster) == (["a-life2"], ["a-life2"])


def test_a_head_that_dies_before_the_second_life_left_its_note_costs_nothing(place: Storage) -> None:
    leave(place, "a")
    assert look(place, Cluster())[0] == ["a-life2"]
    assert look(place, Cluster())[0] == ["a-life2"]


def test_the_last_life_counts(place: Storage) -> None:
    leave(place, "a", "a-life2", "a-life3")
    assert look(place, Cluster()) == (["a-life4"], ["a-life3"])


@pytest.mark.parametrize(("status", "left"), [("RUNNING", ["a"]), ("SUCCEEDED", []), ("FAILED", []), ("STOPPED", [])])
def test_what_runs_is_left_alone_and_what_is_over_is_forgotten(place: Storage, status: str, left: list[str]) -> None:
    leave(place, "a")
    assert look(place, Cluster(a=status)) == ([], left)


def test_a_killed_job_is_brought_back_and_one_that_failed_is_not(place: Storage) -> None:
    leave(place, "killed", "failed")
    cluster = Cluster()
    cluster.add("killed", "FAILED", -9)
    cluster.add("failed", "FAILED", 1)
    assert look(place, cluster) == (["killed-life2"], ["killed"])


def test_a_follower_that_was_faster_is_no_trouble(place: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(place, "a")
    cluster = Cluster(a_life2="RUNNING")
    monkeypatch.setattr(resubmitter, "jobs_of", lambda _: [])  # as it was a moment before
    assert look(place, cluster) == ([], ["a"])


def test_lives_come_after_a_while_and_end(place: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    leave(place, "a-life5", when=time.time())
    assert look(place, Cluster()) == ([], ["a-life5"])
    leave(place, "a-life20")
    assert look(place, Cluster()) == ([], [])
    assert "a-life20 was lost: it is given up, after 20 lives" in capsys.readouterr().out


def test_without_notes_the_cluster_is_not_asked(place: Storage) -> None:
    resubmitter.look(place, lambda: pytest.fail("it was asked"))


def test_trouble_that_lasts_is_told_once_and_the_beat_goes_on(
    tmp_path: Path, place: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = RuntimeError("no answer")
    lasting = [error] * (resubmitter.TROUBLE + 3)
    looks = iter([error, None, *lasting, None, *lasting, KeyboardInterrupt()])

    def stub(*_: object) -> None:
        if raised := next(looks):
            raise raised

    monkeypatch.setattr(resubmitter, "look", stub)
    monkeypatch.setattr(resubmitter, "LOOK_S", 0.0)
    monkeypatch.setattr(resubmitter, "BEAT", tmp_path / "beat")
    with pytest.raises(KeyboardInterrupt):
        resubmitter.keep(place)
    assert capsys.readouterr().err.count("it cannot look: no answer") == 2
    assert resubmitter.BEAT.exists()
