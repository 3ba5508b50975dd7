"""Waiting for pods, with progress, and with the reason in one line where they will never start."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import click

from raysweep.errors import ClusterError

POLL_SECONDS = 0.5
# Of a container that waits -> what to do. Whatever else it waits for may come.
HOPELESS = {
    "ErrImagePull": "build it with `make image`, or set RAYSWEEP_IMAGE to one that the nodes can pull",
    "ImagePullBackOff": "build it with `make image`, or set RAYSWEEP_IMAGE to one that the nodes can pull",
    "ErrImageNeverPull": "load it into the nodes, or set RAYSWEEP_IMAGE to one that they can pull",
    "InvalidImageName": "correct RAYSWEEP_IMAGE",
    "CreateContainerConfigError": "see `kubectl describe pod`",
    "CrashLoopBackOff": "see `kubectl logs`",
}
# In the warnings of events -> what to do.
REFUSALS = {
    "exceeded quota": "ask for less with --workers and --memory, or have the namespace's ResourceQuota raised",
    "violates PodSecurity": "the manifests break the namespace's policy: see its pod-security labels",
    "forbidden": "a policy of this cluster refuses it",
    "denied the request": "an admission webhook of this cluster refuses it",
}


def wait(
    what: str,
    ready: Callable[[], bool],
    *,
    seconds: float,
    trouble: Callable[[], str | None] = lambda: None,
    state: Callable[[], str] = lambda: "",
) -> None:
    """Waits until something is so, and says at each change what it waits for.

    Raises:
        ClusterError: `trouble` names a reason why it will never be so, or the time is over.
    """
    began, shown = time.monotonic(), ""
    while not ready():
        if reason := trouble():
            raise ClusterError(f"{what}: {reason}")
        if time.monotonic() - began > seconds:
            raise ClusterError(f"{what}: not within {seconds:g} s: {state() or 'nothing says why'}")
        if (now := state()) and now != shown:
            click.echo(f"    {now}")
            shown = now
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Says how long something took."""
    began = time.monotonic()
    yield
    click.echo(f"  {what:<32} {time.monotonic() - began:6.1f} s")


def trouble(core: Any, namespace: str, since: datetime, patience: float, selector: str = "") -> str | None:
    """Why pods will not start, in one line; None while they still may.

    Args:
        core: Kubernetes' core/v1 client.
        namespace: where to look.
        since: older warnings are of somebody else's.
        patience: seconds for which a pod may find no node (a cloud has to make one first).
        selector: labels of the pods that count.
    """
    for pod in core.list_namespaced_pod(namespace, label_selector=selector).items:
        if reason := _pod_trouble(pod, patience):
            return reason
    for event in core.list_namespaced_event(namespace, field_selector="type=Warning").items:
        when = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
        fix = next((fix for mark, fix in REFUSALS.items() if mark in (event.message or "")), None)
        if fix and when and when >= since:
            return f"{event.involved_object.kind} {event.involved_object.name}: {line(event.message)}: {fix}"
    return None


def state(core: Any, namespace: str) -> str:
    """The pods that are not ready, and what they wait for, for a line of progress."""
    pods = [pod for pod in core.list_namespaced_pod(namespace).items if not _is_ready(pod)]
    return ", ".join(f"{pod.metadata.name} {_waits_for(pod)}" for pod in pods)


def _pod_trouble(pod: Any, patience: float) -> str | None:
    name = pod.metadata.name
    for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        waiting = status.state and status.state.waiting
        if waiting and waiting.reason in HOPELESS:
            about = f" ({line(waiting.message)})" if waiting.message else ""
            return f"pod {name}: {waiting.reason}: {status.image}{about}: {HOPELESS[waiting.reason]}"
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
            waited = datetime.now(condition.last_transition_time.tzinfo) - condition.last_transition_time
            if waited > timedelta(seconds=patience):
                needs = _asked(pod)
                return f"pod {name}: Unschedulable, it asks for {needs}: {line(condition.message)}"
    return None


def _asked(pod: Any) -> str:
    containers = [container.resources.requests or {} for container in pod.spec.containers]
    kinds = sorted({kind for requests in containers for kind in requests})
    return ", ".join(f"{kind} {'+'.join(r[kind] for r in containers if kind in r)}" for kind in kinds)


def _is_ready(pod: Any) -> bool:
    ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
    return ready or pod.status.phase == "Succeeded"


def _waits_for(pod: Any) -> str:
    statuses = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    waiting = [status.state.waiting.reason for status in statuses if status.state and status.state.waiting]
    return waiting[0] if waiting and waiting[0] else ("starting" if pod.status.phase == "Running" else pod.status.phase)


def line(text: str | None) -> str:
    """A message as one line."""
    return " ".join((text or "").split())
