"""A ticket in the storage with which a job can be submitted again if it is lost with its head node.

Only on clusters with a resubmitter, which set RAYSWEEP_JOBS (see `raysweep.submit.resubmitter`).
"""

from __future__ import annotations

import json
import logging
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
from raysweep.errors import BadInput, StorageError
from raysweep.storage import Storage, code_upload, open_storage

log = logging.getLogger(__name__)
OWN = ("job_submission_id", "job_name")  # keys of Ray's metadata that differ between submissions of a job
FILE_NAME = "note.json"


@dataclass(frozen=True)
class Ticket:
    """What is needed to submit a job again.

    Attributes:
        id: of the submission that wrote the ticket.
        entrypoint: the command line that resumes the job's sweep.
        runtime_env: of Ray; its working_dir is the code in the storage.
        metadata: name, strategy and task, for `raysweep status`.
        time: when the ticket was written, in Unix seconds.
    """

    id: str
    entrypoint: str
    runtime_env: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict)
    time: float = 0.0


def next_id(job: str) -> str:
    """The id for submitting a job again: after `asha-mnist-5f0c2e`, `asha-mnist-5f0c2e-life2`, then `…-life3`."""
    chain, life = life_of(job)
    return f"{chain}-life{life + 1}"


def life_of(job: str) -> tuple[str, int]:
    """The id of a job's first submission (its first life), and the number of the life with this id."""
    match = re.fullmatch(r"(.+)-life(\d+)", job)
    return (match[1], int(match[2])) if match else (job, 1)


def life() -> int:
    """Which life of its job this process belongs to, from 1; 1 outside of a job."""
    return life_of(_job_info().get("metadata", {}).get(OWN[0], ""))[1]


def write(name: str) -> None:
    """Writes the ticket of the job that this process runs; does nothing outside of a job, or without a resubmitter.

    Args:
        name: of the job's sweep.
    """
    if (job := _this_job()) is None:
        return
    place, job_info = job
    runtime_env = {key: value for key, value in job_info["runtime_env"].items() if not key.startswith("_")}
    resume = ["--name", name, "--resume", "auto"]
    command = [*_program(), *sys.argv[1:]]
    command += [] if command[-len(resume) :] == resume else resume
    try:
        if not str(runtime_env.get("working_dir", "")).startswith(place.url):
            runtime_env["working_dir"] = code_upload.upload(Path.cwd(), place)
        runtime_env.pop("excludes", None)
        ticket = Ticket(
            job_info["metadata"][OWN[0]],
            shlex.join(["python", *command]),
            runtime_env,
            {key: value for key, value in job_info["metadata"].items() if key not in OWN},
            time.time(),
        )
        place.put(f"{ticket.id}/{FILE_NAME}", json.dumps(asdict(ticket)).encode())
    except (StorageError, BadInput) as error:
        click.echo(f"warning: this job will not be submitted again if its head node is lost: {error}", err=True)


def _program() -> list[str]:
    """What Python was started with: `jobs/asha.py`, or `-m raysweep.jobs.asha`, whose file is elsewhere next time."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return ["-m", spec.name] if spec else sys.argv[:1]


def remove() -> None:
    """Removes the ticket of the job that this process runs, at the job's end."""
    if (job := _this_job()) is None:
        return
    place, job_info = job
    try:
        place.delete_tree(job_info["metadata"][OWN[0]])
    except StorageError as error:  # the resubmitter also notices that the job has ended
        click.echo(f"warning: {error}", err=True)


def _this_job() -> tuple[Storage, dict[str, Any]] | None:
    """The storage of the tickets, and Ray's information on the job; None without a job or a resubmitter."""
    url, job_info = os.environ.get(env.RAYSWEEP_JOBS), _job_info()
    return (open_storage(url), job_info) if url and OWN[0] in job_info.get("metadata", {}) else None


def _job_info() -> dict[str, Any]:
    """Ray's information on the job that this process runs; empty outside of a job."""
    job_info: dict[str, Any] = json.loads(os.environ.get(env.RAY_JOB_CONFIG_JSON_ENV_VAR) or "{}")
    return job_info


def read(place: Storage) -> list[Ticket]:
    """All tickets in a storage, but for damaged ones."""
    tickets = []
    for key in place.list():
        if key.endswith(f"/{FILE_NAME}"):
            try:
                tickets.append(Ticket(**json.loads(place.get(key))))
            except (ValueError, TypeError):
                log.warning("%s/%s is damaged: the job is not submitted again", place.url, key)
    return tickets
