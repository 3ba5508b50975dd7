"""Jobs on the cluster: submit a strategy, follow it, list, stop. A thin layer over Ray's own JobSubmissionClient."""

from __future__ import annotations

import contextlib
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
from raysweep.errors import BadInput, ClusterError, StorageError
from raysweep.storage import code_upload
from raysweep.submit import log_to_storage, requirements, stored_log, variables
from raysweep.submit.connection import access, connect, storage
from raysweep.submit.request import JobRequest, absolute
from raysweep.submit.submit import LOG, TAKEN, Job, exit_code, find, follow_job, jobs_of, listed, print_reason, wait

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
    log = stored_log.folder_of(request.name, job)
    log = f"{request.storage.rstrip('/')}/{log}" if request.storage else log  # else relative to the job's own storage
    metadata = {"strategy": request.strategy, "name": request.name, "task": request.task or "", LOG: log}
    try:
        for attempt in _until_ready():
            with attempt:
                if attempt.retry_state.attempt_number > 1 and listed(client, job):
                    break
                client.submit_job(
                    entrypoint=shlex.join([*log_to_storage.command(log), *command]),
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
    """Prints a job's log; with `follow`, until its end, and then returns its exit code as `submit` does.

    If no cluster answers, or the one that does has no such job, it is the log in the storage.

    Raises:
        BadInput, ClusterError: there is no cluster, or no such job, and no log of it in the storage either.
    """
    try:
        client = connect(project)
        match = find(client, job)
    except (BadInput, ClusterError) as error:
        log = None
        with contextlib.suppress(BadInput, StorageError):  # the first error says more
            log = stored_log.find(job, storage(project))
        if log is None:
            raise
        print(error, file=sys.stderr, flush=True)
        return _print_stored(log, follow)
    if follow and not match.over:
        return follow_job(project, client, match.id)
    print(client.get_job_logs(match.id), end="", flush=True)
    print_reason(match)
    return exit_code(match) if follow else 0


def stored_logs(job: str, where: str, follow: bool = False) -> int:
    """Prints a job's log from the storage, as far as it was saved; with `follow`, returns the exit code at its end.

    Raises:
        BadInput: there is none.
        StorageError: the storage refused, or is not reachable.
    """
    log = stored_log.find(job, where)
    if log is None:
        raise BadInput(f"there is no log of a job `{job}` in {where}: `raysweep results` lists the sweeps")
    return _print_stored(log, follow)


def _print_stored(log: stored_log.StoredLog, follow: bool) -> int:
    others = f"; it has others, too: {', '.join(log.others)}" if log.others else ""
    print(f"the log of {log.job}, as it was saved in {log.place.url}{others}", file=sys.stderr, flush=True)
    for part in log.parts():
        print(part, end="", flush=True)
    code = log.exit_code()
    if code is None:
        print(f"the log of {log.job} has no end: it runs on, or was lost with its cluster", file=sys.stderr, flush=True)
    return (1 if code is None else code) if follow else 0


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
