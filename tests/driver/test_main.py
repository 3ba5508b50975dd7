"""The flags of a job's driver, in its first life and in the next ones."""

from __future__ import annotations

import json

import pytest

from raysweep import env
from raysweep.driver import main
from raysweep.spec.flags import Flags


def test_a_further_life_resumes_with_the_rest_of_the_budget() -> None:
    flags = Flags(name="mine", time_budget=60.0)
    assert main._restart_flags(flags, 20.0) == Flags(name="mine", time_budget=40.0, resume="auto")
    assert main._restart_flags(flags, 90.0).time_budget == 1.0, "it may still say that the budget is used up"
    assert main._restart_flags(Flags(), 90.0).time_budget is None


@pytest.mark.parametrize(
    ("job", "storage", "resume", "another"),
    [
        (None, "s3://raysweep", "auto", False),
        ("asha-1", "s3://raysweep", "never", False),
        ("asha-1", "s3://raysweep", "auto", True),
        ("asha-1", None, "auto", True),
        ("asha-1", "s3://mine", "auto", False),
        ("asha-1-life2", "s3://mine", "auto", True),
    ],
)
def test_the_store_is_waited_for_if_the_sweep_may_have_started(
    job: str | None, storage: str | None, resume: str, another: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSWEEP_STORAGE", "s3://raysweep")
    if job:
        monkeypatch.setenv(env.RAY_JOB_CONFIG_JSON_ENV_VAR, json.dumps({"metadata": {"job_submission_id": job}}))
    assert main._is_retry(Flags(storage=storage, resume=resume)) is another
