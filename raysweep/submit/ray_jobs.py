"""Jobs on the cluster: submit a strategy, follow it, list, stop. A thin layer over Ray's own JobSubmissionClient."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from raysweep import env, sealed
from raysweep.clusters import lifecycle
from raysweep.clusters.targets import KUBERNETES
from raysweep.errors import BadInput, ClusterError
from raysweep.storage import code_upload
from raysweep.submit import requirements, variables
from raysweep.submit.connection import access, connect
from raysweep.submit.request import JobRequest, absolute
from raysweep.submit.submit import TAKEN, Job, exit_code, find, follow_job, jobs_of, listed, print_reason, wait

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

AGENT_READY_S = 60.0  # a dashboard answers before it can start jobs
UNREADY = (" 404:", " 500:", " 502:", " 503:", " 504:")  # in Ray's errors: status codes of a cluster not ready yet


def submit(project: Path, request: JobRequest, follow: bool = True) -> int:
    """Runs a strategy as a job, with the project folder as its working_dir.

    Args:
        project: its folder; files in .rayignore and .gitignore are not uploaded.
        request: a relative storage, data or points are relative to this machine's current folder. On another machine a
            job finds what of that is in the project.
        follow: print the job's log until its end, see `follow_job`.

    Returns:
        The driver's exit code; 0 without `follow`; DETACHED after Ctrl-C, which leaves the job running.

    Raises:
        BadInput, ClusterError: see `connect`. BadInput also if the project cannot be packed, or if the job is given
            variables and the cluster has no token.
        JobLost: the job was lost, and the cluster does not submit it again.
    """
    own = lifecycle.read(project)
    here = own is not None and own.target == "local"
    request = request.from_here(project, on_this_machine=here)
    request = replace(request, variables=variables.of_shell(own, request) | request.variables)
    runtime_env = _runtime_env(project, request)
    client, job = connect(project), _submission_id(request.strategy, request.name)
    requirements.announce(request.requirements, here, own is not None and own.target in KUBERNETES)
    with code_upload.packed(project) as code:
        _send(client, job, request, request.command(project), {**runtime_env, "working_dir": str(code)})
    return follow_job(project, client, job) if follow else 0


def _send(
    client: JobSubmissionClient, job: str, request: JobRequest, command: list[str], runtime_env: dict[str, Any]
) -> None:
    """Submits once, in spite of retries: if only the answer was lost, the job exists already."""
    metadata = {"strategy": request.strategy, "name": request.name, "task": request.task or ""}
    try:
        for attempt in _until_ready():
            with attempt:
                if attempt.retry_state.attempt_number > 1 and listed(client, job):
                    break
                client.submit_job(
                    entrypoint=shlex.join(command),
                    submission_id=job,
                    runtime_env=runtime_env,
                    metadata=metadata,
                )
    except (RuntimeError, ValueError, OSError) as error:  # Ray's: a refusal, no answer
        if TAKEN not in str(error):
            raise ClusterError(f"the cluster did not take the job: {error}") from error
    print(f"submitted {job}", flush=True)


def _until_ready() -> Retrying:
    return Retrying(
        retry=retry_if_exception(_unready),
        stop=stop_after_delay(AGENT_READY_S),
        wait=wait_exponential(max=5),
        before_sleep=lambda _: print("the cluster cannot start jobs yet: trying again", file=sys.stderr, flush=True),
        reraise=True,
    )


def _unready(error: BaseException) -> bool:
    """Whether the cluster may be ready in a moment."""
    if isinstance(error, RuntimeError):
        return any(code in str(error) for code in UNREADY)
    return isinstance(error, OSError)


def jobs(project: Path, name: str | None = None) -> list[Job]:
    """The cluster's submitted jobs, newest first; only those of a sweep or submission id if `name` is given."""
    all_jobs = jobs_of(connect(project))
    return all_jobs if name is None else [job for job in all_jobs if name in (job.id, job.name)]


def logs(project: Path, job: str, follow: bool = False) -> int:
    """Prints a job's log; with `follow`, until its end, and then returns its exit code as `submit` does."""
    client = connect(project)
    match = find(client, job)
    if follow and not match.over:
        return follow_job(project, client, match.id)
    print(client.get_job_logs(match.id), end="", flush=True)
    print_reason(match)
    return exit_code(match) if follow else 0


def stop(project: Path, job: str) -> tuple[Job, bool]:
    """Requests a job to stop, as `ray job stop` does, and waits until it has ended.

    Returns:
        The ended job, and whether it was running.

    Raises:
        BadInput: there is no such job (with the nearest match).
    """
    client = connect(project)
    match = find(client, job)
    was_running = bool(client.stop_job(match.id))
    return wait(project, client, match.id), was_running


def _runtime_env(project: Path, request: JobRequest) -> dict[str, Any]:
    """What Ray prepares for the job, besides its code.

    Raises:
        BadInput: the job is given variables, and the cluster has no token to seal them with.
    """
    runtime_env = requirements.runtime_env(request.requirements)
    if request.variables:
        if not (token := access(project).token):
            raise BadInput(
                "`--env`: this cluster has no token, so whoever reaches it could read the values: start it with Ray's"
                " token authentication, or set them where it is started"
            )
        runtime_env |= sealed.runtime_env(request.variables, token)
    if storage := absolute(os.environ.get(env.RAYSWEEP_STORAGE)):
        runtime_env.setdefault("env_vars", {})[env.RAYSWEEP_STORAGE] = storage
    return runtime_env


def _submission_id(strategy: str, sweep: str) -> str:
    words = f"{strategy}-{sweep}-{secrets.token_hex(3)}"
    return re.sub(r"[^A-Za-z0-9_.-]", "-", words)
