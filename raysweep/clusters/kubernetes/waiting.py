"""Waiting for pods, with progress, and with the reason in one line where they will never start."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import click

from raysweep.errors import ClusterError, Unreachable

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
# Reasons of events by which a cloud says that it makes a node for a pod: of the cluster autoscaler, of Karpenter.
NODE_COMES = ("TriggeredScaleUp", "Nominated")
NODE_SECONDS = 60.0  # in which it says so
FIXED_PATIENCE = 20.0  # seconds without a node on a cluster to which no further one comes


class Watched(Protocol):
    """What is asked of a Kubernetes cluster here: `Kube` has it."""

    def pods(self, namespace: str, selector: str = "") -> list[Any]:
        """The pods of a namespace that bear these labels."""

    def events(self, namespace: str) -> list[Any]:
        """What has happened there lately."""

    def allocatable(self) -> list[dict[str, str]]:
        """What each node has for pods."""


def wait(
    what: str,
    ready: Callable[[], bool],
    *,
    seconds: float,
    trouble: Callable[[], str | None] = lambda: None,
    state: Callable[[], str] = lambda: "",
) -> None:
    """Waits until something is so, and says at each change what it waits for.

    An API server that does not answer for a while is waited for, too.

    Raises:
        ClusterError: `trouble` names a reason why it will never be so, or the time is over.
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
            raise ClusterError(f"{what}: not within {seconds:g} s: {now or 'nothing says why'}")
        if now and now != shown:
            click.echo(f"    {now}")
            shown = now
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Says how long something took."""
    began = time.monotonic()
    yield
    click.echo(f"  {what:<32} {time.monotonic() - began:6.1f} s")


@dataclass
class Trouble:
    """Why the pods of some owners will not start. What happened before this was made is of no account.

    Attributes:
        kube: the cluster.
        namespace: where to look.
        patience: seconds for which a pod may find no node (others have to end first, or a cloud has to make one).
        grows: whether further nodes may come.
    """

    kube: Watched
    namespace: str
    patience: float
    grows: bool = False
    # By what the API server says of an event, and by this process's own time: its clock may differ from the server's.
    _old: set[tuple[str, str]] = field(default_factory=set)
    _since: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._old = {_key(event) for event in self.kube.events(self.namespace)}

    def __call__(self, *owners: str) -> str | None:
        """The reason in one line; None while they may still start.

        Args:
            owners: names of the objects that count, such as a RayCluster's; its pods and what else is named after it
                count, too. Another cluster of the namespace does not.
        """
        for pod in self.kube.pods(self.namespace):
            if is_of(pod.metadata.name, owners) and (reason := _hopeless(pod) or self._homeless(pod)):
                return reason
        for event in self._new(owners):
            fix = next((fix for mark, fix in REFUSALS.items() if mark in (event.message or "")), None)
            if fix and event.type == "Warning":
                return f"{event.involved_object.kind} {event.involved_object.name}: {line(event.message)}: {fix}"
        return None

    def _new(self, owners: tuple[str, ...]) -> list[Any]:
        events = self.kube.events(self.namespace)
        return [each for each in events if _key(each) not in self._old and is_of(each.involved_object.name, owners)]

    def _homeless(self, pod: Any) -> str | None:
        if (why := unschedulable(pod)) is None:
            self._since.pop(pod.metadata.uid, None)
            return None
        waited = time.monotonic() - self._since.setdefault(pod.metadata.uid, time.monotonic())
        lacks = "" if waited > self.patience else self._too_large(pod, waited)
        if lacks is None:
            return None
        return f"pod {pod.metadata.name}: Unschedulable, it asks for {_asked(pod)}{lacks}: {why}"

    def _too_large(self, pod: Any, waited: float) -> str | None:
        """What no node has, were it empty; None if one has all of it, or if a larger one may come."""
        nodes, asked = self.kube.allocatable(), _requests(pod)
        if not nodes or any(
            all(_number(node.get(kind, "0")) >= much for kind, much in asked.items()) for node in nodes
        ):
            return None
        if self.grows:
            events = self._new((pod.metadata.name,))
            if waited < NODE_SECONDS or any(event.reason in NODE_COMES for event in events):
                return None
        most = {kind: max((node.get(kind, "0") for node in nodes), key=_number, default="0") for kind in asked}
        lacking = [f"{kind} {have}" for kind, have in most.items() if _number(have) < asked[kind]]
        return f", and the largest node has {', '.join(lacking) or 'not all of it'}"


def state(kube: Watched, namespace: str, *owners: str) -> str:
    """The owners' pods that are not ready, and what they wait for, for a line of progress."""
    pods = [pod for pod in kube.pods(namespace) if not _is_ready(pod) and is_of(pod.metadata.name, owners)]
    return ", ".join(f"{pod.metadata.name} {_waits_for(pod)}" for pod in pods)


def is_of(name: str, owners: tuple[str, ...]) -> bool:
    """Whether an object is one of the owners, or named after one."""
    return any(name == owner or name.startswith(f"{owner}-") for owner in owners)


def unschedulable(pod: Any) -> str | None:
    """The scheduler's words on a pod that finds no node; None for others."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
            return line(condition.message)
    return None


def _key(event: Any) -> tuple[str, str]:
    """One that happens again has a new version."""
    return event.metadata.uid, event.metadata.resource_version


def _hopeless(pod: Any) -> str | None:
    for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        waiting = status.state and status.state.waiting
        if waiting and waiting.reason in HOPELESS:
            about = f" ({line(waiting.message)})" if waiting.message else ""
            return f"pod {pod.metadata.name}: {waiting.reason}: {status.image}{about}: {HOPELESS[waiting.reason]}"
    return None


def _asked(pod: Any) -> str:
    containers = [container.resources.requests or {} for container in pod.spec.containers]
    kinds = sorted({kind for requests in containers for kind in requests})
    return ", ".join(f"{kind} {'+'.join(r[kind] for r in containers if kind in r)}" for kind in kinds)


def _requests(pod: Any) -> dict[str, float]:
    """What its containers ask for together, by kind."""
    total: dict[str, float] = {}
    for container in pod.spec.containers:
        for kind, quantity in (container.resources.requests or {}).items():
            total[kind] = total.get(kind, 0.0) + _number(quantity)
    return total


def _number(quantity: str) -> float:
    """Kubernetes' `250m`, `8Gi` or `2` as a number."""
    from kubernetes.utils import parse_quantity  # takes long to import, and is there already when pods are looked at

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
