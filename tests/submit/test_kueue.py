"""What is said of Kueue's queues and priorities, from its objects; that they hold is in tests/k8s/test_kueue.py."""

from __future__ import annotations

import pytest

from raysweep.errors import BadInput, ClusterError, Unreachable
from raysweep.submit import kueue


class Kube:
    """Kueue's objects by kind; an error is raised instead."""

    def __init__(self, **objects: list[dict] | ClusterError) -> None:
        self.objects = objects

    def listed(self, kind: str, group: str, selector: str = "") -> list[dict] | None:
        found = self.objects.get(kind)
        if isinstance(found, ClusterError):
            raise found
        return found


def named(*names: str) -> list[dict]:
    return [{"metadata": {"name": name}} for name in names]


@pytest.mark.parametrize(
    ("kube", "queue", "priority", "said"),
    [
        (Kube(), None, "high", "`--priority high`: it is one of Kueue's: add --queue"),
        (Kube(), "team", None, "`--queue team`: this cluster has no Kueue: see https://"),
        (
            Kube(LocalQueue=named("b", "a")),
            "team",
            None,
            "no LocalQueue of this name in namespace raysweep: use a or b",
        ),
        (Kube(LocalQueue=[]), "team", None, "use one that you make"),
        (
            Kube(LocalQueue=named("team"), WorkloadPriorityClass=named("low")),
            "team",
            "high",
            "`--priority high`: there is no WorkloadPriorityClass of this name: use low",
        ),
    ],
)
def test_what_would_wait_for_ever_is_refused(kube: Kube, queue: str | None, priority: str | None, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        kueue.check(kube, queue, priority)
    assert said in str(caught.value)


def test_what_is_there_is_taken_and_so_is_what_may_not_be_looked_at() -> None:
    kueue.check(Kube(), None, None)
    kueue.check(Kube(LocalQueue=named("team"), WorkloadPriorityClass=named("high")), "team", "high")
    kueue.check(Kube(LocalQueue=ClusterError("forbidden"), WorkloadPriorityClass=ClusterError("no")), "team", "high")
    with pytest.raises(Unreachable):
        kueue.check(Kube(LocalQueue=Unreachable("away")), "team", None)


FULL = "couldn't assign flavors to pod set head:\n insufficient unused quota for memory in flavor one, 2Gi more needed"


def condition(type: str, status: str, message: str) -> dict:
    return {"type": type, "status": status, "message": message}


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ([], ""),
        ([condition("QuotaReserved", "False", FULL)], " ".join(FULL.split())),
        ([condition("QuotaReserved", "True", "reserved"), condition("Evicted", "False", "before")], ""),
        (
            [condition("QuotaReserved", "False", "no quota"), condition("Evicted", "True", "Preempted for another")],
            "Preempted for another; no quota",
        ),
        ([condition("QuotaReserved", "False", "the same"), condition("Evicted", "True", "the same")], "the same"),
    ],
)
def test_why_it_waits_is_kueues_own_reason(conditions: list[dict], said: str) -> None:
    assert kueue.why_waiting(Kube(Workload=[{"status": {"conditions": conditions}}]), "uid") == said


def test_before_kueue_has_seen_it_there_is_no_reason() -> None:
    assert kueue.why_waiting(Kube(Workload=[]), "uid") == ""
