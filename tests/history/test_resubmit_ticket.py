"""What a job says of itself before its sweep begins, as Ray tells it."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from raysweep import env
from raysweep.errors import StorageError
from raysweep.history import resubmit_ticket
from raysweep.history.resubmit_ticket import Ticket
from raysweep.storage import FolderStorage, open_storage

TOLD = {
    "runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip", "excludes": ["/runs/"], "_ray_commit": "1", "pip": ["x"]},
    "metadata": {"job_submission_id": "asha-first-1", "job_name": "asha-first-1", "name": "first"},
}


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A process as a job finds itself; where its note goes."""
    project = tmp_path / "project"
    (project / "jobs").mkdir(parents=True)
    (project / "jobs" / "asha.py").write_text("1")
    monkeypatch.chdir(project)
    monkeypatch.setenv(env.RAYSWEEP_JOBS, str(tmp_path / "jobs"))
    monkeypatch.setenv(env.RAY_JOB_CONFIG_JSON_ENV_VAR, json.dumps(TOLD))
    monkeypatch.setattr(sys, "argv", ["jobs/asha.py", "--task", "it's"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # a file, not a module of pytest's
    return str(tmp_path / "jobs")


def test_a_note_has_all_that_a_further_life_needs(job: str) -> None:
    resubmit_ticket.write("first")
    (left,) = resubmit_ticket.read(open_storage(job))
    assert left.entrypoint == "python jobs/asha.py --task 'it'\"'\"'s' --name first --resume auto"
    assert left.id == "asha-first-1"
    assert left.metadata == {"name": "first"}
    assert left.runtime_env.keys() == {"working_dir", "pip"}
    assert Path(left.runtime_env["working_dir"]).stat().st_size > 0


def test_a_strategy_of_the_kit_is_resumed_as_a_module(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is in a folder of Ray's, which the next head does not have."""
    monkeypatch.setattr(sys, "argv", ["/tmp/ray/session/job/raysweep/jobs/asha.py", "--task", "train"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("raysweep.jobs.asha", None))
    resubmit_ticket.write("first")
    (left,) = resubmit_ticket.read(open_storage(job))
    assert left.entrypoint == "python -m raysweep.jobs.asha --task train --name first --resume auto"


def test_a_further_life_leaves_the_same(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resubmit_ticket.write("first")
    (first,) = resubmit_ticket.read(open_storage(job))
    again = {"runtime_env": first.runtime_env, "metadata": first.metadata | {"job_submission_id": "asha-first-1-life2"}}
    monkeypatch.setenv(env.RAY_JOB_CONFIG_JSON_ENV_VAR, json.dumps(again))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--name", "first", "--resume", "auto"])
    resubmit_ticket.write("first")
    lives = sorted(resubmit_ticket.read(open_storage(job)), key=lambda each: each.id)
    assert [each.id for each in lives] == ["asha-first-1", "asha-first-1-life2"]
    assert lives[1].entrypoint == lives[0].entrypoint
    assert lives[1].runtime_env == lives[0].runtime_env
    resubmit_ticket.remove()
    assert [each.id for each in resubmit_ticket.read(open_storage(job))] == ["asha-first-1"]


def test_a_process_knows_which_life_of_its_job_it_is(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resubmit_ticket.life() == 1
    metadata = TOLD["metadata"] | {"job_submission_id": "asha-first-1-life7"}
    monkeypatch.setenv(env.RAY_JOB_CONFIG_JSON_ENV_VAR, json.dumps(TOLD | {"metadata": metadata}))
    assert resubmit_ticket.life() == 7
    monkeypatch.delenv(env.RAY_JOB_CONFIG_JSON_ENV_VAR)
    assert resubmit_ticket.life() == 1


def test_without_a_keeper_or_outside_of_a_job_there_is_no_note(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(env.RAY_JOB_CONFIG_JSON_ENV_VAR)
    resubmit_ticket.write("first")
    resubmit_ticket.remove()
    monkeypatch.setenv(env.RAY_JOB_CONFIG_JSON_ENV_VAR, json.dumps(TOLD))
    monkeypatch.delenv(env.RAYSWEEP_JOBS)
    resubmit_ticket.write("first")
    resubmit_ticket.remove()
    assert not Path(job).exists()


def test_a_store_that_is_away_is_no_reason_not_to_begin(
    job: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: object) -> None:
        raise StorageError("the store is away")

    monkeypatch.setattr(FolderStorage, "put", away)
    resubmit_ticket.write("first")
    assert "this job will not be submitted again if its head node is lost: the store is away" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job_", "expected"), [("a-1", "a-1-life2"), ("a-1-life2", "a-1-life3"), ("life9", "life9-life2")]
)
def test_lives_are_counted_in_the_id(job_: str, expected: str) -> None:
    assert resubmit_ticket.next_id(job_) == expected


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    place, left = (
        open_storage(str(tmp_path)),
        Ticket("a", "python x", {"working_dir": "s3://x/y.zip"}, {"name": "n"}, 1.0),
    )
    place.put("a/note.json", json.dumps(left.__dict__).encode())
    place.put("code/x.zip", b"")
    for name, content in (("b", b"{"), ("c", b"[]"), ("d", b'{"id": "d"}'), ("e", b"\xff")):
        place.put(f"{name}/note.json", content)  # damaged ones keep no other job from being submitted again
    assert resubmit_ticket.read(place) == [left]
