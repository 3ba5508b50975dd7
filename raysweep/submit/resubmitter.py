"""Brings jobs back that were lost with their head, whoever follows them, or nobody.

    python -m raysweep.submit.resubmitter s3://raysweep/.jobs/5f0c2e11

A cluster whose head is started again by itself runs this beside it. A job of such a cluster leaves a ticket in the
storage (see `raysweep.history.resubmit_ticket`), and takes it away when it ends, however it ends; what a dead head
leaves is the ticket of a job that the cluster does not know. The resubmitter submits that job again, to resume, under
the next id of its own. A follower that is left does the same (see `ray_jobs`), and Ray takes one of the two.
"""

from __future__ import annotations

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
from raysweep.submit.connection import connect
from raysweep.submit.submit import TAKEN, Job, jobs_of

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

LOOK_S = 2.0
TROUBLE = 10  # looks in a row that fail, before it is said: a head or a store may be about to start
LIVES = 20  # of one job
LONGEST_WAIT_S = 60.0
BEAT = Path("/tmp/beat")


def look(place: Storage, reach: Callable[[], JobSubmissionClient]) -> None:
    """Submits again what is lost, and removes the tickets of what is over.

    Args:
        place: where the tickets are.
        reach: gets at the cluster, if there are any.

    Raises:
        RaysweepError, RuntimeError, OSError: the storage or the cluster does not answer as it should.
    """
    if not (chains := _chains(resubmit_ticket.read(place))):
        return
    client = reach()
    jobs = sorted(jobs_of(client), key=lambda job: life_of(job.id)[1])
    for chain, (*older, last) in chains.items():
        for each in older:
            place.delete_tree(each.id)
        # The last life may be one that left no ticket yet.
        job = next((job for job in reversed(jobs) if life_of(job.id)[0] == chain), None)
        if job is None or job.lost:
            _bring_back(last, job, place, client)
        elif job.over:
            place.delete_tree(last.id)


def _chains(tickets: Iterable[Ticket]) -> dict[str, list[Ticket]]:
    """The tickets of each job's lives, in their order, by the id of the first."""
    chains: dict[str, list[Ticket]] = {}
    for each in sorted(tickets, key=lambda each: life_of(each.id)[1]):
        chains.setdefault(life_of(each.id)[0], []).append(each)
    return chains


def _bring_back(left: Ticket, job: Job | None, place: Storage, client: JobSubmissionClient) -> None:
    lost = job.id if job else left.id
    life = life_of(lost)[1]
    if life >= LIVES:
        click.echo(f"{lost} was lost: it is given up, after {LIVES} lives; `--resume auto` goes on with its sweep")
        place.delete_tree(left.id)
    elif time.time() - max(left.time, job.started if job else 0.0) >= min(2.0**life, LONGEST_WAIT_S):
        _submit(client, left, next_id(lost))
        click.echo(f"{lost} was lost: {next_id(lost)} resumes")


def _submit(client: JobSubmissionClient, left: Ticket, job: str) -> None:
    """Unless somebody has."""
    try:
        client.submit_job(
            entrypoint=left.entrypoint, submission_id=job, runtime_env=left.runtime_env, metadata=left.metadata
        )
    except RuntimeError as error:
        if TAKEN not in str(error):
            raise


def keep(place: Storage) -> NoReturn:
    """Looks for as long as the process lives, and touches BEAT; says once what keeps it from looking for a while."""
    failed = 0
    while True:
        try:
            look(place, lambda: connect(Path.cwd()))
            failed = 0
        except (RaysweepError, RuntimeError, OSError) as error:
            failed += 1
            if failed == TROUBLE:
                click.echo(f"it cannot look: {error}", err=True)
        BEAT.touch()
        time.sleep(LOOK_S)


if __name__ == "__main__":
    keep(open_storage(sys.argv[1]))
