"""Jobs on the cluster: submit a strategy, follow it, list, stop. A thin use of Ray's own JobSubmissionClient."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from raysweep import env
from raysweep.clusters import lifecycle
from raysweep.errors import ClusterError
from raysweep.spec.flags import Flags, default_name
from raysweep.storage.code_upload import NEVER_PACKED
from raysweep.submit.connection import connect
from raysweep.submit.submit import TAKEN, Job, exit_code, find, follow_job, jobs_of, listed, wait

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

AGENT_READY_S = 60.0  # a dashboard answers before it can start jobs
UNREADY = (" 404:", " 500:", " 502:", " 503:", " 504:")  # in Ray's errors: status codes of what is not there yet


def submit(
    project: Path,
    strategy: str,
    arguments: Sequence[str] = (),
    name: str | None = None,
    task: str | None = None,
    storage: str | None = None,
    data: str | None = None,
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
        data: the job's --data; the same, if the cluster is on this machine: elsewhere it may lie in the project.
        follow: print the job's log until its end, see `follow_job`.

    Returns:
        The driver's exit code; 0 without `follow`; DETACHED after Ctrl-C, which leaves the job running.

    Raises:
        BadInput, ClusterError: see `connect`.
        JobLost: the job was lost, and the cluster does not submit it again.
    """
    name = name or default_name(task or Flags.task, strategy)
    own = lifecycle.read(project)
    here = absolute(data) if own and own.target == "local" else data
    flags = {"--task": task, "--name": name, "--storage": absolute(storage), "--data": here}
    given = [word for flag, value in flags.items() if value is not None for word in (flag, value)]
    command = ["python", f"jobs/{strategy}.py", *given, *arguments]
    about = {"strategy": strategy, "name": name, "task": task or ""}
    client, job = connect(project), _submission_id(strategy, name)
    _send(client, project, job, command, about)
    return follow_job(project, client, job) if follow else 0


def _send(client: JobSubmissionClient, project: Path, job: str, command: Sequence[str], about: dict[str, str]) -> None:
    """Submits once, however often it has to ask: an answer may be lost, and the job be there."""
    try:
        for attempt in _until_ready():
            with attempt:
                if attempt.retry_state.attempt_number > 1 and listed(client, job):
                    break
                client.submit_job(
                    entrypoint=shlex.join(command),
                    submission_id=job,
                    runtime_env=_runtime_env(project),
                    metadata=about,
                )
    except (RuntimeError, ValueError, OSError) as error:  # Ray's: too large a folder, a refusal, no answer
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
    """Whether a cluster may answer better in a moment."""
    if isinstance(error, RuntimeError):
        return any(code in str(error) for code in UNREADY)
    return isinstance(error, OSError)


def jobs(project: Path, name: str | None = None) -> list[Job]:
    """The cluster's submitted jobs, newest first; only those of a sweep or submission id if `name` is given."""
    found = jobs_of(connect(project))
    return found if name is None else [job for job in found if name in (job.id, job.name)]


def logs(project: Path, job: str, follow: bool = False) -> int:
    """Prints a job's log; with `follow`, until its end, and then returns its exit code as `submit` does."""
    client = connect(project)
    found = find(client, job)
    if follow and not found.over:
        return follow_job(project, client, found.id)
    print(client.get_job_logs(found.id), end="", flush=True)
    return exit_code(found) if follow else 0


def stop(project: Path, job: str) -> tuple[Job, bool]:
    """Asks a job to stop, as `ray job stop` does, and waits until it has.

    Returns:
        The job as it ended, and whether it was running.

    Raises:
        BadInput: there is no such job (with the nearest match).
    """
    client = connect(project)
    found = find(client, job)
    was_running = bool(client.stop_job(found.id))
    return wait(project, client, found.id), was_running


def absolute(storage: str | None) -> str | None:
    """A relative folder as an absolute one: in a job the current folder is a temporary copy. URLs stay."""
    return storage if storage is None or "://" in storage else str(Path(storage).expanduser().absolute())


def _runtime_env(project: Path) -> dict[str, Any]:
    runtime_env: dict[str, Any] = {"working_dir": str(project), "excludes": list(NEVER_PACKED)}
    if storage := absolute(os.environ.get(env.RAYSWEEP_STORAGE)):
        runtime_env["env_vars"] = {env.RAYSWEEP_STORAGE: storage}
    return runtime_env


def _submission_id(strategy: str, name: str | None) -> str:
    words = "-".join(filter(None, (strategy, name, secrets.token_hex(3))))
    return re.sub(r"[^A-Za-z0-9_.-]", "-", words)
