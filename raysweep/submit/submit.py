"""A job on the cluster as Ray reports it, and following it to its end.

A cluster that does not answer does not mean that its job is lost: a job is lost if a cluster answers and does not know
it, or reports that it was killed. If the cluster submits such a job again (see `resubmitter`), its next life is
followed.
"""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_exponential,
    wait_fixed,
)

from raysweep.clusters import lifecycle, targets
from raysweep.errors import BadInput, ClusterError
from raysweep.history.resubmit_ticket import next_id
from raysweep.spec.flags import nearest
from raysweep.submit.connection import connect

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DETACHED = 130  # what a shell reports for Ctrl-C
POLL_SECONDS = 0.2
CLUSTER_BACK_S = 300.0  # for a head to restart
NEXT_LIFE_S = 240.0  # for the cluster to submit a lost job again; it waits up to a minute if the job was lost often
# Error type of a job whose own process was lost with its node; Ray's other error types would occur again.
NODE_LOST = "JOB_SUPERVISOR_ACTOR_DIED"
REASON_LENGTH = 400  # characters of Ray's message that are shown
LOG = "log"  # in Ray's metadata of a job: where its log is saved, see `log_to_storage`
TAKEN = "already exists"  # in Ray's refusal of a submission id


class JobLost(ClusterError):
    """The job was lost with its head, or killed; it did not end by itself."""


@dataclass(frozen=True)
class Job:
    """One line of `raysweep status`. Times are Unix seconds; `exit_code` is None until the driver has ended.

    `message` is what Ray says of the job's state; of a job that never had a driver, it is all that there is.
    """

    id: str
    status: str
    name: str
    strategy: str
    task: str
    started: float
    ended: float | None
    exit_code: int | None
    error_type: str | None
    message: str | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    @property
    def lost(self) -> bool:
        """Whether it was killed or lost with its node, instead of failing by itself."""
        killed = self.exit_code is not None and not 0 <= self.exit_code <= 128  # by a signal, through a shell or not
        return self.status == "FAILED" and (killed or self.error_type == NODE_LOST)

    @property
    def reason(self) -> str | None:
        """Why it failed without an exit code, and so often without a log, in one line; None of any other job.

        Ray's message may hold the whole traceback of one of its agents: its first and its last line say what matters.
        """
        if self.status != "FAILED" or self.exit_code is not None:
            return None
        lines = [line.strip() for line in (self.message or "").splitlines() if line.strip()]
        told = " … ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else "Ray does not say why"
        told = textwrap.shorten(told, REASON_LENGTH, placeholder=" …")
        whole = "; the whole message is in the dashboard, under Jobs" if len(lines) > 2 else ""
        return f"{self.id} failed without an exit code: {told}{whole}"


def patiently() -> Retrying:
    """Retries calls that a starting cluster cannot answer yet."""
    return Retrying(
        retry=retry_if_exception_type((ClusterError, RuntimeError, OSError)),
        stop=stop_after_delay(CLUSTER_BACK_S),
        wait=wait_exponential(max=5),
        reraise=True,
    )


def jobs_of(client: JobSubmissionClient) -> list[Job]:
    jobs = [_job(details) for details in client.list_jobs() if details.submission_id]
    return sorted(jobs, key=lambda job: job.started, reverse=True)


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    return Job(
        id=details.submission_id,
        status=str(details.status.value),
        name=metadata.get("name", ""),
        strategy=metadata.get("strategy", ""),
        task=metadata.get("task", ""),
        started=(details.start_time or 0) / 1000,
        ended=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
        error_type=details.error_type,
        message=details.message,
    )


def find(client: JobSubmissionClient, job: str) -> Job:
    """The job with this submission id, else that of the sweep with this name: a running one, else the newest.

    A sweep's newest job need not be the one that runs it: a second job for the same sweep is refused, and ends.
    """
    jobs = jobs_of(client)
    matches = [each for each in jobs if each.id == job] or [each for each in jobs if each.name == job]
    if matches:
        return next((each for each in matches if not each.over), matches[0])
    known = [word for each in jobs for word in (each.id, each.name) if word]
    raise BadInput(f"there is no job `{job}`{nearest(job, known)}: `raysweep status` lists them")


def follow_job(project: Path, client: JobSubmissionClient, job: str) -> int:
    """Prints a job's log until its end; also of its next life, if it is lost and the cluster submits it again.

    Returns:
        The driver's exit code; DETACHED after Ctrl-C: the job keeps running.

    Raises:
        ClusterError: the cluster does not answer for CLUSTER_BACK_S.
        JobLost: the job was lost, and is not submitted again.
    """
    while True:
        try:
            return _follow_life(project, client, job)
        except JobLost as error:
            job, client = _next_life(project, job, error)


def _next_life(project: Path, job: str, lost: JobLost) -> tuple[str, JobSubmissionClient]:
    """The id under which the cluster has submitted a lost job again, and a client of that cluster."""
    own, following = lifecycle.read(project), next_id(job)
    if own is None or not targets.load(own.target).resubmits:
        raise JobLost(f"{lost}: to continue its sweep, submit it again with --resume auto") from None
    print(f"{lost}: waiting until the cluster submits it again, as {following}", file=sys.stderr, flush=True)

    def client_if_submitted() -> JobSubmissionClient | None:
        client = connect(project)
        return client if listed(client, following) else None

    retry = Retrying(
        retry=retry_if_exception_type((ClusterError, RuntimeError, OSError)) | retry_if_result(lambda got: got is None),
        stop=stop_after_delay(NEXT_LIFE_S),
        wait=wait_fixed(1.0),
        retry_error_callback=lambda state: None,
    )
    client = retry(client_if_submitted)
    if client is None:
        raise JobLost(
            f"{lost}, and the cluster has not submitted it again within {NEXT_LIFE_S:g} s:"
            " see `raysweep cluster status`; to continue its sweep, submit it again with --resume auto"
        )
    return following, client


def _follow_life(project: Path, client: JobSubmissionClient, job: str) -> int:
    shown, over = 0, False
    try:
        while not over:
            over = (details := _details(project, client, job)).over  # checked first: its log is then complete
            shown = asyncio.run(_print_log(client, job, shown))
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        print(f"\ndetached, {job} keeps running; follow: raysweep logs {job} --follow; stop: raysweep stop {job}")
        return DETACHED
    print(f"{job}: {details.status}", flush=True)
    if details.lost:
        raise JobLost(f"{job} was killed")
    print_reason(details)
    return exit_code(details)


def print_reason(ended: Job) -> None:
    """Prints why a job failed without an exit code, if it did."""
    if ended.reason:
        print(f"error: {ended.reason}", file=sys.stderr, flush=True)


def exit_code(ended: Job) -> int:
    """The driver's exit code; 0 or 1 if it has none, as after a stop or before its start."""
    if ended.exit_code is not None:
        return ended.exit_code
    return 0 if ended.status == "SUCCEEDED" else 1


async def _print_log(client: JobSubmissionClient, job: str, shown: int) -> int:
    """Prints the log after the `shown` characters, until the job's end or an error; returns how many are shown now."""
    import aiohttp

    seen = 0
    try:
        async for lines in client.tail_job_logs(job):  # from its beginning
            print(lines[max(0, shown - seen) :], end="", flush=True)
            seen += len(lines)
    except (RuntimeError, OSError, aiohttp.ClientError) as error:
        print(f"the log of {job} broke off: {error}", file=sys.stderr, flush=True)
    return max(shown, seen)


def wait(project: Path, client: JobSubmissionClient, job: str) -> Job:
    """Waits for the job's end; returns the ended job."""
    while not (details := _details(project, client, job)).over:
        time.sleep(POLL_SECONDS)
    return details


def _details(project: Path, client: JobSubmissionClient, job: str) -> Job:
    """The job as the cluster reports it; waits for a cluster that does not answer.

    Raises:
        ClusterError: the cluster does not answer for CLUSTER_BACK_S.
        JobLost: the cluster answers, but does not know the job.
    """
    try:
        for attempt in patiently():
            with attempt:
                again = attempt.retry_state.attempt_number > 1
                details = listed(connect(project) if again else client, job)
    except (RuntimeError, OSError) as error:
        raise ClusterError(f"the cluster no longer reports the state of {job}: {error}") from error
    if details is None:
        raise JobLost(f"the cluster no longer knows {job}")
    return details


def listed(client: JobSubmissionClient, job: str) -> Job | None:
    return next((each for each in jobs_of(client) if each.id == job), None)
