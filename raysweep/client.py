"""Jobs on the cluster: submit a strategy, follow it, list, stop. A thin use of Ray's own JobSubmissionClient.

A job dies with the head that it runs on, and Ray does not know it afterwards. Who follows a sweep submits it again as
soon as the cluster answers, and it goes on from its journal.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)

from raysweep.access import connect
from raysweep.errors import BadInput, ClusterError
from raysweep.flags import Flags, default_name, nearest

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DETACHED = 130  # what a shell reports for Ctrl-C
POLL_SECONDS = 0.2
SUBMISSIONS = 6
CLUSTER_BACK_S = 300.0  # for a head that starts again
# Of a job whose own process went with its node; Ray's other types of error would come again.
NODE_LOST = "JOB_SUPERVISOR_ACTOR_DIED"
NEVER_UPLOADED = ("/.raysweep/", "/runs/", "/.git/", "/.venv/")  # whatever .rayignore says


class JobLost(ClusterError):
    """The job ended with its head or was killed, not by itself."""


@dataclass(frozen=True)
class Job:
    """One line of `raysweep status`. Times are Unix seconds; `exit_code` is None until the driver has ended."""

    id: str
    status: str
    name: str
    strategy: str
    task: str
    started: float
    ended: float | None
    exit_code: int | None
    error_type: str | None

    @property
    def lost(self) -> bool:
        """Whether it failed by no doing of its own."""
        killed = self.exit_code is not None and not 0 <= self.exit_code <= 128  # by a signal, through a shell or not
        return self.status == "FAILED" and (killed or self.error_type == NODE_LOST)


def submit(
    project: Path,
    strategy: str,
    arguments: Sequence[str] = (),
    name: str | None = None,
    task: str | None = None,
    storage: str | None = None,
    follow: bool = True,
) -> int:
    """Runs `python jobs/<strategy>.py` with these arguments as a job, with the project folder as its working_dir.

    Args:
        project: folder with jobs/, tasks/ and raysweep/; what .rayignore and .gitignore name stays at home.
        strategy: a file of jobs/, without .py.
        arguments: the job's own flags, passed on as they are.
        name: the sweep's --name, also part of the submission id.
        task: the job's --task.
        storage: the job's --storage; a relative folder is one of this machine's current folder.
        follow: print the job's log until its end; a job that is lost is submitted again, and resumes.

    Returns:
        The driver's exit code; 0 without `follow`; DETACHED after Ctrl-C, which leaves the job running.

    Raises:
        BadInput, ClusterError: see `connect`.
        JobLost: SUBMISSIONS times.
    """
    name = name or default_name(task or Flags.task, strategy)
    flags = {"--task": task, "--name": name, "--storage": absolute(storage)}
    given = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
    command = ["python", f"jobs/{strategy}.py", *given, *arguments]
    about = {"strategy": strategy, "name": name, "task": task or ""}
    client = connect(project)
    job = _send(client, project, command, about)
    if not follow:
        return 0
    for attempt in _again():
        with attempt:
            if attempt.retry_state.attempt_number > 1:
                client = _reconnect(project)
                job = _send(client, project, [*command, "--resume", "auto"], about)
            code = _follow(client, job)
    return code


def _send(client: JobSubmissionClient, project: Path, command: Sequence[str], about: dict[str, str]) -> str:
    try:
        job = client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=_submission_id(about["strategy"], about["name"]),
            runtime_env=_runtime_env(project),
            metadata=about,
        )
    except (RuntimeError, ValueError, OSError) as error:  # Ray's: too large a folder, a refusal, no answer
        raise ClusterError(f"the cluster did not take the job: {error}") from error
    print(f"submitted {job}", flush=True)
    return job


def _again() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(JobLost),
        stop=stop_after_attempt(SUBMISSIONS),
        before_sleep=_tell,
        reraise=True,
    )


def _tell(state: RetryCallState) -> None:
    assert state.outcome is not None
    print(f"{state.outcome.exception()}: it is submitted again, and resumes", file=sys.stderr, flush=True)


def _reconnect(project: Path) -> JobSubmissionClient:
    patiently = Retrying(
        retry=retry_if_exception_type(ClusterError),
        stop=stop_after_delay(CLUSTER_BACK_S),
        wait=wait_exponential(max=5),
        reraise=True,
    )
    return patiently(connect, project)


def jobs(project: Path, name: str | None = None) -> list[Job]:
    """The cluster's submitted jobs, newest first; only those of a sweep or submission id if `name` is given."""
    found = _jobs(connect(project))
    return found if name is None else [job for job in found if name in (job.id, job.name)]


def logs(project: Path, job: str, follow: bool = False) -> int:
    """Prints a job's log; with `follow`, until its end, and then returns its exit code as `submit` does."""
    client = connect(project)
    found = _find(client, job)
    if follow and found.ended is None:
        return _follow(client, found.id)
    print(client.get_job_logs(found.id), end="", flush=True)
    return _exit_code(found) if follow else 0


def stop(project: Path, job: str) -> tuple[Job, bool]:
    """Asks a job to stop, as `ray job stop` does, and waits until it has.

    Returns:
        The job as it ended, and whether it was running.

    Raises:
        BadInput: there is no such job (with the nearest match).
    """
    client = connect(project)
    found = _find(client, job)
    was_running = bool(client.stop_job(found.id))
    _wait(client, found.id)
    return _find(client, found.id), was_running


def absolute(storage: str | None) -> str | None:
    """A relative folder as an absolute one: in a job the current folder is a temporary copy. URLs stay."""
    return storage if storage is None or "://" in storage else str(Path(storage).expanduser().absolute())


def _runtime_env(project: Path) -> dict[str, Any]:
    env: dict[str, Any] = {"working_dir": str(project), "excludes": list(NEVER_UPLOADED)}
    if storage := absolute(os.environ.get("RAYSWEEP_STORAGE")):
        env["env_vars"] = {"RAYSWEEP_STORAGE": storage}
    return env


def _submission_id(strategy: str, name: str | None) -> str:
    words = "-".join(filter(None, (strategy, name, secrets.token_hex(3))))
    return re.sub(r"[^A-Za-z0-9_.-]", "-", words)


def _jobs(client: JobSubmissionClient) -> list[Job]:
    found = [_job(details) for details in client.list_jobs() if details.submission_id]
    return sorted(found, key=lambda job: job.started, reverse=True)


def _job(details: Any) -> Job:
    about = details.metadata or {}
    return Job(
        id=details.submission_id,
        status=str(details.status.value),
        name=about.get("name", ""),
        strategy=about.get("strategy", ""),
        task=about.get("task", ""),
        started=(details.start_time or 0) / 1000,
        ended=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
        error_type=details.error_type,
    )


def _find(client: JobSubmissionClient, job: str) -> Job:
    """The job with this submission id, else the newest of the sweep with this name."""
    found = _jobs(client)
    for match in found:
        if job in (match.id, match.name):
            return match
    known = [word for each in found for word in (each.id, each.name) if word]
    raise BadInput(f"there is no job `{job}`{nearest(job, known)}: `raysweep status` lists them")


def _follow(client: JobSubmissionClient, job: str) -> int:
    try:
        asyncio.run(_print_log(client, job))
        _wait(client, job)
    except KeyboardInterrupt:
        print(f"\ndetached, {job} goes on; follow: raysweep logs {job} --follow; stop: raysweep stop {job}")
        return DETACHED
    ended = _find(client, job)
    print(f"{job}: {ended.status}", flush=True)
    if ended.lost:
        raise JobLost(f"{job} was killed")
    return _exit_code(ended)


def _exit_code(ended: Job) -> int:
    """The driver's; a job that was stopped, or never began, has none."""
    if ended.exit_code is not None:
        return ended.exit_code
    return 0 if ended.status == "SUCCEEDED" else 1


async def _print_log(client: JobSubmissionClient, job: str) -> None:
    import aiohttp

    try:
        async for lines in client.tail_job_logs(job):
            print(lines, end="", flush=True)
    except (RuntimeError, OSError, aiohttp.ClientError) as error:
        print(f"the log of {job} broke off ({error}); waiting for its end", file=sys.stderr)


def _wait(client: JobSubmissionClient, job: str) -> None:
    try:
        while not client.get_job_status(job).is_terminal():
            time.sleep(POLL_SECONDS)
    except (OSError, RuntimeError) as error:  # no answer, or that there is no such job
        raise JobLost(f"the cluster no longer knows {job}, so its end is not known: {error}") from error
