"""Waits for pods, with progress, and reports in one line why pods can never start."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import click

from raysweep.errors import ClusterError, Unreachable

POLL_SECONDS = 0.5
# Waiting reason of a container -> what to do. For any other reason, it may still start.
HOPELESS = {
    "ErrImagePull": "build it with `raysweep image`, or set RAYSWEEP_IMAGE to one that the nodes can pull",
    "ImagePullBackOff": "build it with `raysweep image`, or set RAYSWEEP_IMAGE to one that the nodes can pull",
    "ErrImageNeverPull": "load it into the nodes, or set RAYSWEEP_IMAGE to one that they can pull",
    "InvalidImageName": "correct RAYSWEEP_IMAGE",
    "CreateContainerConfigError": "see `kubectl describe pod`",
    "CrashLoopBackOff": "see `kubectl logs`",
}
# Text in an event's warning -> what to do.
REFUSALS = {
    "exceeded quota": "request less with --workers and --memory, or have the namespace's ResourceQuota raised",
    "violates PodSecurity": "the manifests break the namespace's policy: see its pod-security labels",
    "forbidden": "a policy of this cluster refuses it",
    "denied the request": "an admission webhook of this cluster refuses it",
}
# Reasons of events that announce a new node for a pod: of the cluster autoscaler, and of Karpenter.
NODE_COMES = ("TriggeredScaleUp", "Nominated")
NODE_SECONDS = 60.0  # within which a new node is announced
FIXED_PATIENCE = 20.0  # seconds without a node on a cluster that does not grow


class Watched(Protocol):
    """The part of `Kube` that is used here."""

    def pods(self, namespace: str, selector: str = "") -> list[Any]:
        """The pods of a namespace that have these labels."""

    def events(self, namespace: str) -> list[Any]:
        """The recent events of a namespace."""

    def allocatable(self) -> list[dict[str, str]]:
        """Each node's allocatable resources."""


def wait(
    what: str,
    ready: Callable[[], bool],
    *,
    seconds: float,
    trouble: Callable[[], str | None] = lambda: None,
    state: Callable[[], str] = lambda: "",
) -> None:
    """Waits until something is ready, and prints each change of its state.

    Also waits for an API server that does not answer for a while.

    Raises:
        ClusterError: `trouble` returned a reason why it will never be ready, or the time is over.
    """
    began, shown, now = time.monotonic(), "", ""
    while True:
        try:
            if ready():
                return
            if reason := trouble():
                raise ClusterError(f"{what}: {reason}")
            now = state()
        except Unreachable as error:
            now = str(error)
        if time.monotonic() - began > seconds:
            raise ClusterError(f"{what}: not within {seconds:g} s: {now or 'reason unknown'}")
        if now and now != shown:
            click.echo(f"    {now}")
            shown = now
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Prints how long something took."""
    began = time.monotonic()
    yield
    click.echo(f"  {what:<32} {time.monotonic() - began:6.1f} s")


@dataclass
class Trouble:
    """Finds out why the pods of some owners can never start. Events before its creation are ignored.

    Attributes:
        kube: the cluster.
        namespace: of the pods.
        patience: seconds for which a pod may be unschedulable, since others have to end or a cloud has to add a node.
        grows: whether nodes may be added.
    """

    kube: Watched
    namespace: str
    patience: float
    grows: bool = False
    # Old events are identified by their versions, and waits are timed by this process: clocks may differ.
    _old: set[tuple[str, str]] = field(default_factory=set)
    _since: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._old = {_key(event) for event in self.kube.events(self.namespace)}

    def __call__(self, *owners: str) -> str | None:
        """The reason in one line; None while they may still start.

        Args:
            owners: names of objects, such as a RayCluster; its pods and other objects named after it are included, but
                not those of another cluster in the namespace.
        """
        for pod in self.kube.pods(self.namespace):
            if is_of(pod.metadata.name, owners) and (reason := _hopeless(pod) or self._unschedulable(pod)):
                return reason
        for event in self._new(owners):
            fix = next((fix for mark, fix in REFUSALS.items() if mark in (event.message or "")), None)
            if fix and event.type == "Warning":
                return f"{event.involved_object.kind} {event.involved_object.name}: {line(event.message)}: {fix}"
        return None

    def _new(self, owners: tuple[str, ...]) -> list[Any]:
        events = self.kube.events(self.namespace)
        return [each for each in events if _key(each) not in self._old and is_of(each.involved_object.name, owners)]

    def _unschedulable(self, pod: Any) -> str | None:
        if (why := unschedulable(pod)) is None:
            self._since.pop(pod.metadata.uid, None)
            return None
        waited = time.monotonic() - self._since.setdefault(pod.metadata.uid, time.monotonic())
        lacking = "" if waited > self.patience else self._too_large(pod, waited)
        if lacking is None:
            return None
        return f"pod {pod.metadata.name}: Unschedulable, it asks for {_requests_text(pod)}{lacking}: {why}"

    def _too_large(self, pod: Any, waited: float) -> str | None:
        """What even an empty node lacks; None if the pod fits on an empty node, or if a larger node may be added."""
        nodes, requests = self.kube.allocatable(), _requests(pod)
        if not nodes or any(
            all(_number(node.get(kind, "0")) >= amount for kind, amount in requests.items()) for node in nodes
        ):
            return None
        if self.grows:
            events = self._new((pod.metadata.name,))
            if waited < NODE_SECONDS or any(event.reason in NODE_COMES for event in events):
                return None
        largest = {kind: max((node.get(kind, "0") for node in nodes), key=_number, default="0") for kind in requests}
        lacking = [f"{kind} {amount}" for kind, amount in largest.items() if _number(amount) < requests[kind]]
        return f", and the largest node has {', '.join(lacking) or 'not all of it'}"


def state(kube: Watched, namespace: str, *owners: str) -> str:
    """The owners' pods that are not ready, and what they wait for, as a line of progress."""
    pods = [pod for pod in kube.pods(namespace) if not _is_ready(pod) and is_of(pod.metadata.name, owners)]
    return ", ".join(f"{pod.metadata.name} {_waits_for(pod)}" for pod in pods)


def is_of(name: str, owners: tuple[str, ...]) -> bool:
    """Whether an object is one of the owners, or named after one."""
    return any(name == owner or name.startswith(f"{owner}-") for owner in owners)


def unschedulable(pod: Any) -> str | None:
    """The scheduler's message on an unschedulable pod; None for others."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
            return line(condition.message)
    return None


def _key(event: Any) -> tuple[str, str]:
    """Identifies an event; a repeated one has a new version."""
    return event.metadata.uid, event.metadata.resource_version


def _hopeless(pod: Any) -> str | None:
    for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        waiting = status.state and status.state.waiting
        if waiting and waiting.reason in HOPELESS:
            message = f" ({line(waiting.message)})" if waiting.message else ""
            return f"pod {pod.metadata.name}: {waiting.reason}: {status.image}{message}: {HOPELESS[waiting.reason]}"
    return None


def _requests_text(pod: Any) -> str:
    containers = [container.resources.requests or {} for container in pod.spec.containers]
    kinds = sorted({kind for requests in containers for kind in requests})
    return ", ".join(f"{kind} {'+'.join(r[kind] for r in containers if kind in r)}" for kind in kinds)


def _requests(pod: Any) -> dict[str, float]:
    """The sum of its containers' requests, by resource."""
    total: dict[str, float] = {}
    for container in pod.spec.containers:
        for kind, quantity in (container.resources.requests or {}).items():
            total[kind] = total.get(kind, 0.0) + _number(quantity)
    return total


def _number(quantity: str) -> float:
    """Kubernetes' `250m`, `8Gi` or `2` as a number."""
    from kubernetes.utils import parse_quantity  # slow to import, but already imported when there are pods

    return float(parse_quantity(quantity))


def _is_ready(pod: Any) -> bool:
    ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
    return ready or pod.status.phase == "Succeeded"


def _waits_for(pod: Any) -> str:
    if why := unschedulable(pod):
        return f"Unschedulable ({why})"
    statuses = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    waiting = [status.state.waiting.reason for status in statuses if status.state and status.state.waiting]
    return waiting[0] if waiting and waiting[0] else ("starting" if pod.status.phase == "Running" else pod.status.phase)


def line(text: str | None) -> str:
    """A message as one line."""
    return " ".join((text or "").split())
