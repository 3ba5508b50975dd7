"""Why pods do not start, in one line: from what Kubernetes' API says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace as Namespace
from typing import Any

import pytest
from kubernetes import client

from raysweep.clusters.kubernetes import waiting
from raysweep.clusters.kubernetes.waiting import Trouble
from raysweep.errors import ClusterError, Unreachable

NODES = [{"cpu": "2", "memory": "16308204Ki"}, {"cpu": "7910m", "memory": "4Gi"}]


def pod(
    name: str = "raysweep-head-x",
    waiting_for: str | None = None,
    unschedulable: bool = False,
    requests: tuple[dict[str, str], ...] = ({"cpu": "1", "memory": "8Gi"},),
) -> client.V1Pod:
    state = client.V1ContainerState(
        waiting=client.V1ContainerStateWaiting(reason=waiting_for, message="no\nsuch image")
    )
    status = client.V1ContainerStatus(name="ray", image="ray:1", image_id="", ready=False, restart_count=0, state=state)
    message = "0/1 nodes are available: 1 Insufficient memory."
    condition = client.V1PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message=message)
    containers = [
        client.V1Container(name="ray", resources=client.V1ResourceRequirements(requests=each)) for each in requests
    ]
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, uid=name),
        spec=client.V1PodSpec(containers=containers),
        status=client.V1PodStatus(
            phase="Pending",
            container_statuses=[status] if waiting_for else None,
            conditions=[condition] if unschedulable else None,
        ),
    )


@dataclass
class Cluster:
    """What a Kubernetes cluster says of itself."""

    there: list[Any] = field(default_factory=list)
    happened: list[Any] = field(default_factory=list)

    def pods(self, namespace: str, selector: str = "") -> list[Any]:
        return self.there

    def events(self, namespace: str) -> list[Any]:
        return list(self.happened)

    def allocatable(self) -> list[dict[str, str]]:
        return NODES


def event(message: str, name: str = "raysweep", version: str = "1", reason: str = "FailedToCreate") -> Any:
    kind = "RayCluster" if name == "raysweep" else "Pod"
    return Namespace(
        message=message,
        type="Warning",
        reason=reason,
        metadata=Namespace(uid=message, resource_version=version),
        involved_object=Namespace(kind=kind, name=name),
    )


def trouble(cluster: Cluster, patience: float = 900, grows: bool = False) -> str | None:
    return Trouble(cluster, "raysweep", patience, grows)("raysweep")


@pytest.mark.parametrize("reason", sorted(waiting.HOPELESS))
def test_a_container_that_will_never_start_is_named_with_the_fix(reason: str) -> None:
    answer = trouble(Cluster([pod(waiting_for=reason)]))
    assert answer == f"pod raysweep-head-x: {reason}: ray:1 (no such image): {waiting.HOPELESS[reason]}"


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_a_container_that_is_on_its_way_is_no_trouble(reason: str) -> None:
    cluster = Cluster([pod(waiting_for=reason)])
    assert trouble(cluster) is None
    assert waiting.state(cluster, "raysweep", "raysweep") == f"raysweep-head-x {reason}"


def test_a_pod_that_has_to_wait_for_others_is_trouble_once_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([pod(unschedulable=True)])
    look = Trouble(cluster, "raysweep", patience=20)
    now = 1000.0
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now)
    assert look("raysweep") is None
    now += 19
    assert look("raysweep") is None
    now += 2
    assert look("raysweep") == (
        "pod raysweep-head-x: Unschedulable, it asks for cpu 1, memory 8Gi:"
        " 0/1 nodes are available: 1 Insufficient memory."
    )
    cluster.there = [pod(waiting_for="ContainerCreating")]
    assert look("raysweep") is None
    cluster.there = [pod(unschedulable=True)]
    assert look("raysweep") is None  # its time begins anew


@pytest.mark.parametrize(
    ("requests", "lacking"),
    [
        (({"cpu": "1", "memory": "64Gi"},), "memory 16308204Ki"),
        (({"cpu": "6", "memory": "1Gi"}, {"cpu": "2"}), "cpu 7910m"),
        (({"cpu": "1", "nvidia.com/gpu": "1"},), "nvidia.com/gpu 0"),
        (({"cpu": "4", "memory": "8Gi"},), "not all of it"),  # one node has the CPUs, the other the memory
    ],
)
def test_a_pod_larger_than_every_node_is_reported_at_once(requests: tuple[dict[str, str], ...], lacking: str) -> None:
    answer = trouble(Cluster([pod(unschedulable=True, requests=requests)]))
    assert answer
    assert f", and the largest node has {lacking}: 0/1 nodes" in answer


def test_on_a_growing_cluster_a_larger_node_is_waited_for_if_it_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([pod(unschedulable=True, requests=({"memory": "64Gi"},))])
    look = Trouble(cluster, "raysweep", patience=900, grows=True)
    now = 1000.0
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now)
    assert look("raysweep") is None
    now += waiting.NODE_SECONDS + 1
    assert "memory 64Gi" in (look("raysweep") or "")
    cluster.happened = [event("pod triggered scale-up", "raysweep-head-x", reason="TriggeredScaleUp")]
    assert look("raysweep") is None
    now += 900
    assert "memory 64Gi" in (look("raysweep") or "")


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ('pods "x" is forbidden: exceeded quota: small, requested: cpu=1', "request less"),
        ('pods "x" is forbidden: violates PodSecurity "restricted"', "pod-security"),
        ('admission webhook "y" denied the request: no', "webhook"),
    ],
)
def test_a_refusal_is_reported_with_its_fix_unless_it_is_old(message: str, fix: str) -> None:
    cluster = Cluster(happened=[event(message)])
    look = Trouble(cluster, "raysweep", 20)
    assert look("raysweep") is None
    cluster.happened = [event(message, version="2")]  # it happened again
    answer = look("raysweep")
    assert answer
    assert answer.startswith(f"RayCluster raysweep: {message}: ")
    assert fix in answer


def test_events_of_another_cluster_are_ignored() -> None:
    cluster = Cluster([pod("asha-first-x7k2p-head-y", waiting_for="ImagePullBackOff")])
    look = Trouble(cluster, "raysweep", 20)
    cluster.happened = [event("exceeded quota: small", "asha-first-x7k2p")]
    assert look("raysweep") is None
    assert look("asha-first", "asha-first-x7k2p")
    assert waiting.state(cluster, "raysweep", "raysweep") == ""


def test_a_transient_event_is_no_trouble() -> None:
    cluster = Cluster()
    look = Trouble(cluster, "raysweep", 20)
    cluster.happened = [event("Readiness probe failed")]
    assert look("raysweep") is None


def test_waiting_ends_with_the_reason_or_with_the_time() -> None:
    waiting.wait("it", lambda: True, seconds=0)
    with pytest.raises(ClusterError, match="it: broken"):
        waiting.wait("it", lambda: False, seconds=60, trouble=lambda: "broken")
    with pytest.raises(ClusterError, match="not within 0 s: head Pending"):
        waiting.wait("it", lambda: False, seconds=0, state=lambda: "head Pending")


def test_an_api_server_that_does_not_answer_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0)
    answers = iter([Unreachable("no answer"), False, Unreachable("no answer"), True])

    def ready() -> bool:
        answer = next(answers)
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    waiting.wait("it", ready, seconds=60)
