"""The processes of one cluster, identified by a marker in their environment.

Names would not do: Ray's workers rewrite their command line, and another Ray on this machine must not be touched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import psutil

from raysweep import env
from raysweep.clusters.shared.until import until

TERM_SECONDS = 0.7  # Ray's GCS does not react to SIGTERM, and nothing else needs longer
KILL_SECONDS = 5.0


def is_marked(pid: int, cluster_id: str) -> bool:
    """Whether a live process belongs to the cluster; its pid alone may have been reused."""
    try:
        process = psutil.Process(pid)
        return _is_alive(process) and process.environ().get(env.RAYSWEEP_CLUSTER_ID) == cluster_id
    except psutil.Error:
        return False


def marked(cluster_id: str) -> list[psutil.Process]:
    """The cluster's live processes and all their descendants, without this process and its parents."""
    roots = [p for p in psutil.process_iter() if is_marked(p.pid, cluster_id)]
    all_processes = set(roots).union(*(_children(p) for p in roots))
    own_pids = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    return [p for p in all_processes if p.pid not in own_pids and _is_alive(p)]


def daemons(cluster_id: str) -> list[int]:
    """The pids of the cluster's processes that were not started by another of its processes."""
    pids = {p.pid: p.ppid() for p in marked(cluster_id)}
    return sorted(pid for pid, parent in pids.items() if parent not in pids)


def end(cluster_id: str) -> tuple[int, list[int]]:
    """Ends the cluster's processes: SIGTERM, then SIGKILL, until none is left.

    Returns:
        How many there were, and the pids of those still alive KILL_SECONDS after SIGKILL.
    """
    first = marked(cluster_id)
    for process in first:
        _signal(process, kill=False)
    _wait(first, TERM_SECONDS)
    until(lambda: _kill(cluster_id), KILL_SECONDS)
    return len(first), [process.pid for process in marked(cluster_id)]


def _kill(cluster_id: str) -> bool:
    """Kills the remaining processes; returns whether there were none. A dying raylet may still start a worker."""
    left = marked(cluster_id)
    for process in left:
        _signal(process, kill=True)
    _wait(left, 0.5)
    return not left


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _is_alive(process: psutil.Process) -> bool:
    """Whether a process is running. A zombie has ended, and only waits for its parent."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(process: psutil.Process, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.Error:
        return  # it has ended in the meantime


def _wait(processes: Sequence[psutil.Process], seconds: float) -> None:
    until(lambda: not any(map(_is_alive, processes)), seconds, pause=0.02)
