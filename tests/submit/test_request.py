"""A requested job, and the command that runs it."""

from pathlib import Path

import pytest

from raysweep.submit.request import JobRequest, absolute


def test_a_request_is_a_command() -> None:
    request = JobRequest("asha", "first", ("--samples", "4"), task="digits", storage="s3://bucket")
    assert request.command == [
        "python", "jobs/asha.py", "--task", "digits", "--name", "first", "--storage", "s3://bucket",
        "--samples", "4",
    ]  # fmt: skip
    assert JobRequest("asha", "first").command == ["python", "jobs/asha.py", "--name", "first"]


def test_a_job_runs_in_another_folder() -> None:
    request = JobRequest("asha", "first", storage="runs", data="pictures")
    here = request.from_here(with_data=True)
    assert (here.storage, here.data) == (str(Path.cwd() / "runs"), str(Path.cwd() / "pictures"))
    assert request.from_here(with_data=False).data == "pictures"


@pytest.mark.parametrize(
    ("place", "expected"), [(None, None), ("s3://bucket/runs", "s3://bucket/runs"), ("/a/b", "/a/b")]
)
def test_absolute_keeps_urls_and_absolute_folders(place: str | None, expected: str | None) -> None:
    assert absolute(place) == expected
