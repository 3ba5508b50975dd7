"""The cluster of a project, whatever its target: up, down, status, and its record in `.raysweep/`.

`.raysweep/` is for this user only (0700) and neither committed nor uploaded with a job:
`token` (0600) is the secret, `cluster.json` says what runs, `lock` keeps two commands from meeting.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from raysweep import targets
from raysweep.errors import ClusterError
from raysweep.targets import Cluster, Options

FOLDER = ".raysweep"
TOKEN_BYTES = 32


def up(project: Path, target: str = "local", options: Options | None = None) -> tuple[Cluster, bool]:
    """Brings up the project's cluster, or finds it up; what is left of a dead one is removed first.

    Returns:
        The cluster, and whether it was up already.

    Raises:
        BadInput: the options cannot be met, nothing was started.
        ClusterError: it did not start, with the end of the log that says why.
    """
    folder = _folder(project)
    with _locked(folder):
        old = read(project)
        if old and targets.load(old.target).healthy(old):
            return old, True
        if old:
            _remove(project, old)
        record = functools.partial(_write, folder / "cluster.json")
        try:
            return targets.load(target).start(project, ensure_token(folder), options or Options(), record), False
        except BaseException:  # Ctrl-C too: half a cluster is worse than none
            if half := read(project):
                _remove(project, half)
            raise


def down(project: Path) -> tuple[Cluster, int] | None:
    """Takes the project's cluster down, dead or alive; harmless if there is none.

    Returns:
        The cluster and how many processes were ended, or None if there was nothing to do.

    Raises:
        ClusterError: something did not end; the record stays, so that `down` can be tried again.
    """
    if read(project) is None:
        return None
    with _locked(_folder(project)):
        cluster = read(project)
        return (cluster, _remove(project, cluster)) if cluster else None


def status(project: Path) -> tuple[Cluster, bool] | None:
    """The project's cluster and whether it is healthy, or None if there is none."""
    cluster = read(project)
    return (cluster, targets.load(cluster.target).healthy(cluster)) if cluster else None


def read(project: Path) -> Cluster | None:
    """The recorded cluster, or None.

    Raises:
        ClusterError: the record cannot be understood.
    """
    path = project / FOLDER / "cluster.json"
    try:
        fields = json.loads(path.read_text())
        return Cluster(**(fields | {"pids": tuple(fields["pids"])}))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ClusterError(f"{path} is damaged ({error}): remove it, and end the cluster by hand") from error


def ensure_token(folder: Path) -> Path:
    """The token file of a project; made on first use, readable by its owner only."""
    path = folder / "token"
    if path.exists() and path.stat().st_size == 0:  # a crash between making and writing it
        path.unlink()
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(TOKEN_BYTES))
    path.chmod(0o600)
    return path


def _folder(project: Path) -> Path:
    folder = project / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(project: Path, cluster: Cluster) -> int:
    count = targets.load(cluster.target).stop(cluster)
    (project / FOLDER / "cluster.json").unlink(missing_ok=True)
    return count


def _write(path: Path, cluster: Cluster) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(dataclasses.asdict(cluster), indent=2) + "\n")
    temporary.replace(path)
