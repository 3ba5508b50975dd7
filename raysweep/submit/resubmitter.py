"""Submits jobs again that were lost with their head, whether somebody follows them or not.

    python -m raysweep.submit.resubmitter s3://raysweep/.jobs/5f0c2e11

Runs beside the head on the targets that restart it by themselves: docker (docker/compose.yaml) and Kubernetes
(k8s/base/resubmitter.yaml). RayJobs do not need it: KubeRay itself tries them again.

A job of such a cluster writes a ticket to the storage (see `raysweep.history.resubmit_ticket`), and removes it when it
ends, unless it has failed: of a failure that the head knows of, the resubmitter removes it. So after the death of a
head, there are tickets of jobs that the new head does not know. The resubmitter submits such a job again, under its
next id, to resume its sweep. If somebody else has submitted that id already, Ray refuses it, and nothing is lost.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from raysweep.errors import RaysweepError
from raysweep.history import resubmit_ticket
from raysweep.history.resubmit_ticket import Ticket, life_of, next_id
from raysweep.storage import Storage, open_storage
from raysweep.submit import log_to_storage
from raysweep.submit.connection import connect
from raysweep.submit.submit import LOG, TAKEN, Job, jobs_of

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

CHECK_S = 2.0
REPORT_AFTER = 10  # failed checks in a row: before that, a head or a store may only be starting
LIVES = 20  # of one job
LONGEST_WAIT_S = 60.0
BEAT = Path("/tmp/beat")


def check(place: Storage, connect_client: Callable[[], JobSubmissionClient]) -> None:
    """Submits lost jobs again, and removes the tickets of ended ones.

    Args:
        place: the storage of the tickets.
        connect_client: connects to the cluster; called only if there are tickets.

    Raises:
        RaysweepError, RuntimeError, OSError: the storage or the cluster does not answer as it should.
    """
    if not (chains := _chains(resubmit_ticket.read(place))):
        return
    client = connect_client()
    jobs = sorted(jobs_of(client), key=lambda job: life_of(job.id)[1])
    for chain, (*older, last) in chains.items():
        for each in older:
            place.delete_tree(each.id)
        # The last life may not have written its ticket yet.
        job = next((job for job in reversed(jobs) if life_of(job.id)[0] == chain), None)
        if job is None or job.lost:
            _resubmit(last, job, place, client)
        elif job.over:
            place.delete_tree(last.id)


def _chains(tickets: Iterable[Ticket]) -> dict[str, list[Ticket]]:
    """The tickets of each job's lives in order, by the id of its first life."""
    chains: dict[str, list[Ticket]] = {}
    for each in sorted(tickets, key=lambda each: life_of(each.id)[1]):
        chains.setdefault(life_of(each.id)[0], []).append(each)
    return chains


def _resubmit(ticket: Ticket, job: Job | None, place: Storage, client: JobSubmissionClient) -> None:
    lost = job.id if job else ticket.id
    life = life_of(lost)[1]
    if life >= LIVES:
        click.echo(f"{lost} was lost: it is given up, after {LIVES} lives; `--resume auto` continues its sweep")
        place.delete_tree(ticket.id)
    elif time.time() - max(ticket.time, job.started if job else 0.0) >= min(2.0**life, LONGEST_WAIT_S):
        _submit(client, ticket, next_id(lost))
        click.echo(f"{lost} was lost: {next_id(lost)} resumes")


def _submit(client: JobSubmissionClient, ticket: Ticket, job: str) -> None:
    """Submits a job, unless this id has been submitted already; its log goes on where that of its first life is."""
    log = ticket.metadata.get(LOG)
    entrypoint = f"{shlex.join(log_to_storage.command(log))} {ticket.entrypoint}" if log else ticket.entrypoint
    try:
        client.submit_job(
            entrypoint=entrypoint, submission_id=job, runtime_env=ticket.runtime_env, metadata=ticket.metadata
        )
    except RuntimeError as error:
        if TAKEN not in str(error):
            raise


def run(place: Storage) -> NoReturn:
    """Checks for lost jobs until the process ends, and touches BEAT; prints an error once if checks keep failing."""
    failed = 0
    while True:
        try:
            check(place, lambda: connect(Path.cwd()))
            failed = 0
        except (RaysweepError, RuntimeError, OSError) as error:
            failed += 1
            if failed == REPORT_AFTER:
                click.echo(f"cannot check for lost jobs: {error}", err=True)
        BEAT.touch()
        time.sleep(CHECK_S)


if __name__ == "__main__":
    run(open_storage(sys.argv[1]))
