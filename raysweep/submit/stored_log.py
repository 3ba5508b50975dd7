"""Reads the log of a job from the storage, where `log_to_storage` has saved it: the cluster may be gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from raysweep.errors import NotFound
from raysweep.history.resubmit_ticket import life_of
from raysweep.storage import Storage, open_storage
from raysweep.submit.log_to_storage import exit_code

FOLDER = "logs"  # of a sweep; what trials have printed is there, too
_KEY = re.compile(rf"{FOLDER}/(?P<job>[^/]+)/(?P<begun>\d{{8}}T\d{{6}})\.\d+\.log")


def folder_of(sweep: str, job: str) -> str:
    """Where the log of a job is, in the storage of its sweep; all lives of a job have the same."""
    return f"{sweep}/{FOLDER}/{life_of(job)[0]}"


@dataclass(frozen=True)
class StoredLog:
    """The log of a job, with those of its earlier and later lives, if it was lost and submitted again.

    Attributes:
        sweep: the job's.
        job: its submission id; a RayJob has a random one.
        others: ids of the sweep's other jobs, the newest first.
        place: the sweep's own folder or prefix.
        keys: of the objects, in their order.
    """

    sweep: str
    job: str
    others: tuple[str, ...]
    place: Storage
    keys: tuple[str, ...]

    def parts(self) -> Iterator[str]:
        """The text, in parts.

        Raises:
            StorageError: the storage refused, or is not reachable.
        """
        for key in self.keys:
            try:
                yield self.place.get(key).decode(errors="replace")
            except NotFound:  # a log that grows leaves out what is in its middle
                continue

    def exit_code(self) -> int | None:
        """The exit code of the job's last life; None if that did not come to its end, or runs on.

        Raises:
            StorageError: the storage refused, or is not reachable.
        """
        return exit_code(self.place.get(self.keys[-1]).decode(errors="replace"))


def find(job: str, where: str) -> StoredLog | None:
    """The log of a job in a storage, or None if there is none.

    Args:
        job: a submission id, or the name of a sweep: its newest job.
        where: a folder or s3://bucket/prefix, which holds the sweeps.

    Raises:
        StorageError: the storage refused, or is not reachable.
        BadInput: it is no storage.
    """
    storage = open_storage(where)
    # A submission id has the name of its sweep in it; but for the characters that an id may not have.
    sweeps = [name for name in storage.folders() if name == job or re.sub(r"[^A-Za-z0-9_.-]", "-", name) in job]
    for sweep in sorted(sweeps, key=lambda name: (name != job, -len(name))):
        place = storage.child(sweep)
        logs: dict[str, list[re.Match[str]]] = {}
        for match in filter(None, map(_KEY.fullmatch, place.list(FOLDER))):
            logs.setdefault(match["job"], []).append(match)
        newest_first = sorted(logs, key=lambda each: max(key["begun"] for key in logs[each]), reverse=True)
        found = next((each for each in newest_first if sweep == job or each == life_of(job)[0]), None)
        if found:
            others = tuple(each for each in newest_first if each != found)
            return StoredLog(sweep, found, others, place, tuple(sorted(match[0] for match in logs[found])))
    return None
