"""Kueue, which holds a RayJob back, suspended, until there is room for its whole cluster."""

from __future__ import annotations

from raysweep.clusters.kubernetes.api import Kube
from raysweep.clusters.kubernetes.manifests import NAMESPACE
from raysweep.clusters.kubernetes.waiting import line
from raysweep.errors import BadInput, ClusterError, Unreachable

GROUP = "kueue.x-k8s.io"  # of its kinds, and of its labels
QUEUE, PRIORITY, JOB = f"{GROUP}/queue-name", f"{GROUP}/priority-class", f"{GROUP}/job-uid"


def check(kube: Kube, queue: str | None, priority: str | None) -> None:
    """Checks queue and priority before a job is created: with a wrong one, it would be suspended for ever.

    Args:
        kube: the Kubernetes cluster.
        queue: name of a LocalQueue of our namespace, or None.
        priority: name of a WorkloadPriorityClass, or None.

    Raises:
        BadInput: there is none of this name, with those that there are; or a priority without a queue.
    """
    if queue is None:
        if priority is not None:
            raise BadInput(f"`--priority {priority}`: it is one of Kueue's: add --queue with the queue to wait in")
        return
    problems = _unknown(kube, "LocalQueue", "--queue", queue)
    if priority is not None:
        problems += _unknown(kube, "WorkloadPriorityClass", "--priority", priority)
    if problems:
        raise BadInput(*problems)


def _unknown(kube: Kube, kind: str, flag: str, name: str) -> list[str]:
    """A problem if Kueue has no such object; nothing if this user may not look."""
    try:
        found = kube.listed(kind, GROUP)
    except Unreachable:
        raise
    except ClusterError:
        return []
    if found is None:
        return [f"`{flag} {name}`: this cluster has no Kueue: see https://kueue.sigs.k8s.io/docs/installation"]
    names = sorted(each["metadata"]["name"] for each in found)
    if name in names:
        return []
    where = f" in namespace {NAMESPACE}" if kind == "LocalQueue" else ""
    return [f"`{flag} {name}`: there is no {kind} of this name{where}: use {' or '.join(names) or 'one that you make'}"]


def why_waiting(kube: Kube, job: str) -> str:
    """Kueue's reason why a job has to wait, as one line; empty if it gives none.

    Args:
        kube: the Kubernetes cluster.
        job: uid of the RayJob.

    Raises:
        ClusterError: this user may not look.
        Unreachable: the API server does not answer.
    """
    for workload in kube.listed("Workload", GROUP, f"{JOB}={job}") or []:
        conditions = {each["type"]: each for each in workload.get("status", {}).get("conditions", [])}
        held = [conditions.get("Evicted", {}), conditions.get("QuotaReserved", {})]
        said = [each["message"] for each, bad in zip(held, ("True", "False"), strict=True) if each.get("status") == bad]
        return line("; ".join(dict.fromkeys(filter(None, said))))  # both may say the same
    return ""
