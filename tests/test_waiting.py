"""Why pods do not start, in one line: from what Kubernetes' API says of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Namespace
from typing import Any

import pytest
from kubernetes import client

from raysweep.errors import ClusterError
from raysweep.targets import waiting

NOW = datetime.now(UTC)  # when the tests were read: one that needs the present asks for it


def pod(waiting_for: str | None = None, unschedulable: timedelta | None = None) -> client.V1Pod:
    state = client.V1ContainerState(
        waiting=client.V1ContainerStateWaiting(reason=waiting_for, message="no\nsuch image")
    )
    status = client.V1ContainerStatus(name="ray", image="ray:1", image_id="", ready=False, restart_count=0, state=state)
    now = datetime.now(UTC)
    condition = client.V1PodCondition(
        type="PodScheduled",
        status="False",
        reason="Unschedulable",
        message="0/1 nodes are available: 1 Insufficient memory.",
        last_transition_time=now - unschedulable if unschedulable is not None else now,
    )
    resources = client.V1ResourceRequirements(requests={"cpu": "1", "memory": "8Gi"})
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name="head"),
        spec=client.V1PodSpec(containers=[client.V1Container(name="ray", resources=resources)]),
        status=client.V1PodStatus(
            phase="Pending",
            container_statuses=[status] if waiting_for else None,
            conditions=[condition] if unschedulable is not None else None,
        ),
    )


def api(pods: list[Any] = (), events: list[Any] = ()) -> Any:
    return Namespace(
        list_namespaced_pod=lambda *_, **__: Namespace(items=pods),
        list_namespaced_event=lambda *_, **__: Namespace(items=events),
    )


def event(message: str, when: datetime) -> Any:
    return Namespace(
        message=message,
        last_timestamp=when,
        event_time=None,
        involved_object=Namespace(kind="RayCluster", name="raysweep"),
    )


def trouble(core: Any) -> str | None:
    return waiting.trouble(core, "raysweep", NOW, patience=20)


@pytest.mark.parametrize("reason", sorted(waiting.HOPELESS))
def test_a_container_that_will_never_start_is_named_with_the_fix(reason: str) -> None:
    said = trouble(api([pod(reason)]))
    assert said == f"pod head: {reason}: ray:1 (no such image): {waiting.HOPELESS[reason]}"


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_a_container_that_is_on_its_way_is_no_trouble(reason: str) -> None:
    assert trouble(api([pod(reason)])) is None
    assert waiting.state(api([pod(reason)]), "raysweep") == f"head {reason}"


def test_a_pod_without_a_node_is_trouble_once_patience_ends_and_names_what_it_asks_for() -> None:
    assert trouble(api([pod(unschedulable=timedelta(seconds=5))])) is None
    said = trouble(api([pod(unschedulable=timedelta(seconds=30))]))
    assert said
    assert "Unschedulable, it asks for cpu 1, memory 8Gi: 0/1 nodes" in said


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ('pods "x" is forbidden: exceeded quota: small, requested: cpu=1', "ask for less"),
        ('pods "x" is forbidden: violates PodSecurity "restricted"', "pod-security"),
        ('admission webhook "y" denied the request: no', "webhook"),
    ],
)
def test_a_refusal_is_told_with_its_fix_unless_it_is_old(message: str, fix: str) -> None:
    said = trouble(api(events=[event(message, NOW + timedelta(seconds=1))]))
    assert said
    assert said.startswith(f"RayCluster raysweep: {message}: ")
    assert fix in said
    assert trouble(api(events=[event(message, NOW - timedelta(minutes=5))])) is None


def test_an_event_that_says_nothing_final_is_no_trouble() -> None:
    assert trouble(api(events=[event("Readiness probe failed", NOW + timedelta(seconds=1))])) is None


def test_waiting_ends_with_the_reason_or_with_the_time() -> None:
    waiting.wait("it", lambda: True, seconds=0)
    with pytest.raises(ClusterError, match="it: broken"):
        waiting.wait("it", lambda: False, seconds=60, trouble=lambda: "broken")
    with pytest.raises(ClusterError, match="not within 0 s: head Pending"):
        waiting.wait("it", lambda: False, seconds=0, state=lambda: "head Pending")
