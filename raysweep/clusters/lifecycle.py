"""The cluster of a project, whatever its target: up, down, status, and its record in `.raysweep/`.

`.raysweep/` is for this user only (0700) and neither committed nor uploaded with a job:
`token` (0600) is the secret, `cluster.json` describes the cluster, `lock` keeps two commands from running at once,
`logs/` has what programs said that failed (see `shared.commands`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from raysweep.clusters import targets
from raysweep.clusters.shared import processes
from raysweep.clusters.targets import Cluster, Options
from raysweep.errors import BadInput, ClusterError
from raysweep.kit import FOLDER

TOKEN_BYTES = 32


def up(project: Path, target: str = "local", options: Options | None = None) -> tuple[Cluster, bool]:
    """Brings up the project's cluster, unless it is up already.

    A cluster that does not answer is revived if it holds data worth keeping (see `Target.revive`); otherwise its
    remains are removed, and a new one is started.

    Returns:
        The cluster, and whether it was up already.

    Raises:
        BadInput: the options cannot be met, or a cluster of another target is up; nothing was started.
        ClusterError: it did not start, with the end of the log that says why.
    """
    options = options or Options()
    targets.refuse(target, targets.load(target), options)
    folder = _folder(project)
    with _locked(folder):
        record = functools.partial(_write, folder / "cluster.json")
        if old := read(project):
            if _answers(old):
                _refuse_another(old, target, "is up")
                return old, True
            if revived := _revive(old, target, record):
                return revived, False
            _remove(project, old)
        try:
            return targets.load(target).start(project, ensure_token(folder), options, record), False
        except BaseException:  # also Ctrl-C: a partly started cluster is worse than none
            if partial := read(project):
                with _print_failure():
                    _remove(project, partial)
            raise


def _answers(cluster: Cluster) -> bool:
    try:
        return targets.load(cluster.target).healthy(cluster)
    except ClusterError:  # not answering now is no reason to remove it
        return False


def _revive(old: Cluster, target: str, record: Callable[[Cluster], None]) -> Cluster | None:
    """Revives a cluster; None if it holds nothing worth keeping. An error removes nothing: `down` does."""
    if old.target != target and targets.load(old.target).lasting:
        _refuse_another(old, target, "does not answer, and may hold sweeps")
    return targets.load(old.target).revive(old, record) if old.target == target else None


def _refuse_another(old: Cluster, target: str, state: str) -> None:
    if old.target != target:
        raise BadInput(f"`--target {target}`: the {old.target} cluster {state}: `raysweep cluster down` first")


def down(project: Path, volumes: bool = False, forget: bool = False) -> tuple[Cluster, str] | None:
    """Takes the project's cluster down, dead or alive; harmless if there is none.

    Args:
        project: the project's folder.
        volumes: remove the cluster's stored data, too; also those of a cluster that is down already.
        forget: only remove the record of a cluster that can no longer be reached.

    Returns:
        The cluster and what was ended, or None if there was no cluster.

    Raises:
        ClusterError: something did not end; the record stays, so that `down` can be tried again.
    """
    if read(project) is None and not (volumes and (project / FOLDER).exists()):
        return None
    with _locked(_folder(project)):
        cluster = read(project)
        if cluster and forget:
            processes.end(cluster.id)  # on this machine; anything elsewhere is left as it is
            (project / FOLDER / "cluster.json").unlink()
            return cluster, "nothing but its record and its processes here"
        ended = _remove(project, cluster, volumes) if cluster else ""
        if volumes:
            for name in targets.TARGETS:
                targets.load(name).remove_volumes(project)
        return (cluster, ended) if cluster else None


def scale(project: Path, workers: int) -> None:
    """Changes the number of the cluster's nodes that run trials.

    Raises:
        BadInput: there is no cluster, or its target does not support it.
    """
    existing(project)
    with _locked(_folder(project)):
        cluster = existing(project)
        targets.load(cluster.target).scale(cluster, workers)


def logs(project: Path, follow: bool = False) -> int:
    """Prints the logs of the cluster's own processes; returns an exit code."""
    cluster = existing(project)
    return targets.load(cluster.target).logs(cluster, follow)


def existing(project: Path) -> Cluster:
    """The recorded cluster.

    Raises:
        BadInput: there is none.
    """
    if cluster := read(project):
        return cluster
    raise BadInput("no cluster is running: start one with `raysweep cluster up`")


def status(project: Path) -> tuple[Cluster, bool] | None:
    """The project's cluster and whether it is healthy, or None if there is none.

    Raises:
        Unreachable: its Kubernetes cluster does not answer, so its state is unknown.
    """
    cluster = read(project)
    return (cluster, targets.load(cluster.target).healthy(cluster)) if cluster else None


def read(project: Path) -> Cluster | None:
    """The recorded cluster, or None.

    Raises:
        ClusterError: the record is damaged.
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
    """The token file of a project; created on first use, readable by its owner only."""
    path = folder / "token"
    if path.exists() and path.stat().st_size == 0:  # after a crash between creating and writing it
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
def _print_failure() -> Iterator[None]:
    """Prints that a removal failed, so that it does not hide the original error; the record stays, for `down`."""
    try:
        yield
    except ClusterError as error:
        print(f"what was started could not be removed: {error}", file=sys.stderr)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(project: Path, cluster: Cluster, volumes: bool = False) -> str:
    ended = targets.load(cluster.target).stop(cluster, volumes)
    (project / FOLDER / "cluster.json").unlink(missing_ok=True)
    return ended


def _write(path: Path, cluster: Cluster) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(dataclasses.asdict(cluster), indent=2) + "\n")
    temporary.replace(path)
