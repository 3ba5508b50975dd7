"""What a job leaves in the storage so that it can be submitted again, should it be lost with its head.

Only on clusters with a keeper, which set RAYSWEEP_JOBS (see `raysweep.submit.resubmitter`).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from raysweep import env
from raysweep.errors import StorageError
from raysweep.storage import Storage, code_upload, open_storage

OWN = ("job_submission_id", "job_name")  # in Ray's metadata: what belongs to one submission alone
NOTE = "note.json"


@dataclass(frozen=True)
class Note:
    """What a job is submitted again with.

    Attributes:
        id: of the submission that left it.
        entrypoint: the command line that resumes its sweep.
        runtime_env: Ray's; its working_dir is the code in the storage.
        metadata: name, strategy and task, for `raysweep status`.
        time: when it was left, in Unix seconds.
    """

    id: str
    entrypoint: str
    runtime_env: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)
    time: float = 0.0


def next_id(job: str) -> str:
    """The id under which a job is submitted again: after `asha-mnist-5f0c2e`, `asha-mnist-5f0c2e-life2`, `…-life3`."""
    chain, life = life_of(job)
    return f"{chain}-life{life + 1}"


def life_of(job: str) -> tuple[str, int]:
    """The id of a job's first life, and which of its lives this is."""
    found = re.fullmatch(r"(.+)-life(\d+)", job)
    return (found[1], int(found[2])) if found else (job, 1)


def life() -> int:
    """Which life of its job this process is in, from 1; also outside of a job."""
    return life_of(_told().get("metadata", {}).get(OWN[0], ""))[1]


def leave(name: str) -> None:
    """Notes how the job that this process is can be submitted again; does nothing outside of one, or without a keeper.

    Args:
        name: of its sweep.
    """
    if (job := _this_job()) is None:
        return
    place, told = job
    runtime_env = {key: value for key, value in told["runtime_env"].items() if not key.startswith("_")}
    resume = ["--name", name, "--resume", "auto"]
    given = sys.argv if sys.argv[-len(resume) :] == resume else [*sys.argv, *resume]
    try:
        if not str(runtime_env.get("working_dir", "")).startswith(place.url):
            runtime_env["working_dir"] = code_upload.upload(Path.cwd(), place)
        runtime_env.pop("excludes", None)
        note = Note(
            told["metadata"][OWN[0]],
            shlex.join(["python", *given]),
            runtime_env,
            {key: value for key, value in told["metadata"].items() if key not in OWN},
            time.time(),
        )
        place.put(f"{note.id}/{NOTE}", json.dumps(asdict(note)).encode())
    except StorageError as error:
        click.echo(f"warning: nobody will submit this job again, should its head be lost: {error}", err=True)


def take_away() -> None:
    """Called by a job that has come to its end by itself."""
    if (job := _this_job()) is None:
        return
    place, told = job
    try:
        place.delete_tree(told["metadata"][OWN[0]])
    except StorageError as error:  # the keeper sees, too, that the job is over
        click.echo(f"warning: {error}", err=True)


def _this_job() -> tuple[Storage, dict[str, Any]] | None:
    """Where its note goes, and what Ray told it."""
    url, told = os.environ.get(env.RAYSWEEP_JOBS), _told()
    return (open_storage(url), told) if url and OWN[0] in told.get("metadata", {}) else None


def _told() -> dict[str, Any]:
    """What Ray tells a job of itself; nothing outside of one."""
    told: dict[str, Any] = json.loads(os.environ.get(env.RAY_JOB_CONFIG_JSON_ENV_VAR) or "{}")
    return told


def read(place: Storage) -> list[Note]:
    """All that are there."""
    return [Note(**json.loads(place.get(key))) for key in place.list() if key.endswith(f"/{NOTE}")]
