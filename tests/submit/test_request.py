"""A requested job, and the command that runs it."""

from pathlib import Path

import pytest

from raysweep.submit.request import JobRequest, absolute


def test_a_request_is_a_command(tmp_path: Path) -> None:
    request = JobRequest("asha", "first", ("--samples", "4"), task="digits", storage="s3://bucket")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "asha.py").touch()
    assert request.command(tmp_path) == [
        "python", "jobs/asha.py", "--task", "digits", "--name", "first", "--storage", "s3://bucket",
        "--samples", "4",
    ]  # fmt: skip
    assert JobRequest("asha", "first").command(tmp_path) == ["python", "jobs/asha.py", "--name", "first"]


def test_a_strategy_that_the_project_has_not_is_the_kits(tmp_path: Path) -> None:
    command = JobRequest("asha", "first", points="points.yaml").command(tmp_path)
    assert command == ["python", "-m", "raysweep.jobs.asha", "--name", "first", "--points", "points.yaml"]


def test_a_job_runs_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    request = JobRequest("asha", "first", storage="runs", data="pictures", points="../points.yaml")
    here = request.from_here(tmp_path, on_this_machine=True)
    assert (here.storage, here.data) == (str(Path.cwd() / "runs"), str(Path.cwd() / "pictures"))
    there = request.from_here(tmp_path, on_this_machine=False)
    assert (there.storage, there.data, there.points) == (here.storage, "sub/pictures", "sub/../points.yaml")


@pytest.mark.parametrize("data", ["s3://bucket/pictures", "/mnt/pictures", None])
def test_data_outside_of_the_project_are_asked_for_as_they_are(tmp_path: Path, data: str | None) -> None:
    assert JobRequest("asha", "first", data=data).from_here(tmp_path, on_this_machine=False).data == data


@pytest.mark.parametrize(
    ("place", "expected"), [(None, None), ("s3://bucket/runs", "s3://bucket/runs"), ("/a/b", "/a/b")]
)
def test_absolute_keeps_urls_and_absolute_folders(place: str | None, expected: str | None) -> None:
    assert absolute(place) == expected


def test_a_module_of_the_kit_is_run_instead_of_a_strategy(tmp_path: Path) -> None:
    request = JobRequest("verify", "first-verify", ("--of", "first"), module="raysweep.driver.verify")
    assert request.command(tmp_path) == [
        *("python", "-m", "raysweep.driver.verify", "--name", "first-verify", "--of", "first"),
    ]
