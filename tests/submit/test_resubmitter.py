"""Which jobs are brought back, and under which name; the cluster is a list of what it knows."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raysweep.history import resubmit_ticket
from raysweep.history.resubmit_ticket import Ticket
from raysweep.storage import Storage, open_storage
from raysweep.submit import log_to_storage, resubmitter

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
                driver_exit_code=exit_code, error_type=None, message=None,
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


def check(place: Storage, cluster: Any) -> tuple[list[str], list[str]]:
    """What was submitted, and whose notes are there then."""
    resubmitter.check(place, lambda: cluster)
    return [job for job, _ in cluster.submitted], [each.id for each in resubmit_ticket.read(place)]


def test_a_job_that_the_cluster_does_not_know_is_submitted_as_its_next_life(place: Storage) -> None:
    leave(place, "a")
    cluster = Cluster()
    assert check(place, cluster) == (["a-life2"], ["a"])
    assert cluster.submitted[0][1] == {
        "entrypoint": "python jobs/asha.py --resume auto",
        "runtime_env": {"working_dir": "s3://x/1.zip"},
        "metadata": {"name": "n"},
    }
    assert check(place, cluster) == (["a-life2"], ["a"])  # it is there, and has left no note yet
    leave(place, "a-life2")
    assert check(place, cluster) == (["a-life2"], ["a-life2"])


def test_its_log_goes_on_where_that_of_its_first_life_is(place: Storage) -> None:
    metadata = {"name": "n", "log": "n/logs/it's-a"}
    left = Ticket("a", "python jobs/asha.py --resume auto", {}, metadata, LONG_AGO)
    place.put(f"a/{resubmit_ticket.FILE_NAME}", json.dumps(asdict(left)).encode())
    cluster = Cluster()
    assert check(place, cluster)[0] == ["a-life2"]
    again = cluster.submitted[0][1]
    assert shlex.split(again["entrypoint"]) == [
        *log_to_storage.command("n/logs/it's-a"), "python", "jobs/asha.py", "--resume", "auto"
    ]  # fmt: skip
    assert again["metadata"] == metadata


def test_a_head_may_die_before_the_second_life_has_written_its_ticket(place: Storage) -> None:
    leave(place, "a")
    assert check(place, Cluster())[0] == ["a-life2"]
    assert check(place, Cluster())[0] == ["a-life2"]


def test_the_last_life_counts(place: Storage) -> None:
    leave(place, "a", "a-life2", "a-life3")
    assert check(place, Cluster()) == (["a-life4"], ["a-life3"])


@pytest.mark.parametrize(("status", "left"), [("RUNNING", ["a"]), ("SUCCEEDED", []), ("FAILED", []), ("STOPPED", [])])
def test_running_jobs_are_left_alone_and_tickets_of_ended_ones_removed(
    place: Storage, status: str, left: list[str]
) -> None:
    leave(place, "a")
    assert check(place, Cluster(a=status)) == ([], left)


def test_a_killed_job_is_submitted_again_and_a_failed_one_is_not(place: Storage) -> None:
    leave(place, "killed", "failed")
    cluster = Cluster()
    cluster.add("killed", "FAILED", -9)
    cluster.add("failed", "FAILED", 1)
    assert check(place, cluster) == (["killed-life2"], ["killed"])


def test_a_job_that_was_submitted_by_somebody_else_is_no_error(place: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(place, "a")
    cluster = Cluster(a_life2="RUNNING")
    monkeypatch.setattr(resubmitter, "jobs_of", lambda _: [])  # as it was a moment before
    assert check(place, cluster) == ([], ["a"])


def test_lives_start_after_a_delay_and_are_limited(place: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    leave(place, "a-life5", when=time.time())
    assert check(place, Cluster()) == ([], ["a-life5"])
    leave(place, "a-life20")
    assert check(place, Cluster()) == ([], [])
    assert "a-life20 was lost: it is given up, after 20 lives" in capsys.readouterr().out


def test_without_tickets_the_cluster_is_not_contacted(place: Storage) -> None:
    resubmitter.check(place, lambda: pytest.fail("it was called"))


def test_lasting_failures_are_reported_once_and_the_beat_continues(
    tmp_path: Path, place: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = RuntimeError("no answer")
    lasting = [error] * (resubmitter.REPORT_AFTER + 3)
    checks = iter([error, None, *lasting, None, *lasting, KeyboardInterrupt()])

    def stub(*_: object) -> None:
        if raised := next(checks):
            raise raised

    monkeypatch.setattr(resubmitter, "check", stub)
    monkeypatch.setattr(resubmitter, "CHECK_S", 0.0)
    monkeypatch.setattr(resubmitter, "BEAT", tmp_path / "beat")
    with pytest.raises(KeyboardInterrupt):
        resubmitter.run(place)
    assert capsys.readouterr().err.count("cannot check for lost jobs: no answer") == 2
    assert resubmitter.BEAT.exists()
