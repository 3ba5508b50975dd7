"""RayJobs in a queue of the real Kueue, on the kind cluster of the other tests, with room for one of them."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from raysweep.clusters.kubernetes.kind import Kind
from raysweep.submit import kueue, rayjob
from tests.k8s.conftest import KEPT
from tests.k8s.kind_project import KindProject, eventually, slow_task
from tests.k8s.test_sweeps import check_nothing_lost, check_nothing_of_it_runs, repeated, sweep_of

NEEDED = ("KUEUE_IMAGE", "KUEUE_MANIFESTS")
ABSENT = [name for name in NEEDED if name not in KEPT]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"NO KUEUE HERE: {' and '.join(ABSENT)} not set")
WORKERS = 2  # of a RayJob: with its head 7 GiB, so that 8 GiB are room for one
VERSION = f"{kueue.GROUP}/v1beta2"
MADE: list[dict[str, Any]] = [
    {"kind": "ResourceFlavor", "metadata": {"name": "one"}},
    {
        "kind": "ClusterQueue",
        "metadata": {"name": "one"},
        "spec": {
            "namespaceSelector": {},
            "preemption": {"withinClusterQueue": "LowerPriority"},
            "resourceGroups": [
                {
                    "coveredResources": ["cpu", "memory"],
                    "flavors": [
                        {
                            "name": "one",
                            "resources": [
                                {"name": "cpu", "nominalQuota": 4},
                                {"name": "memory", "nominalQuota": "8Gi"},
                            ],
                        }
                    ],
                }
            ],
        },
    },
    {"kind": "LocalQueue", "metadata": {"name": "team", "namespace": "raysweep"}, "spec": {"clusterQueue": "one"}},
    {"kind": "WorkloadPriorityClass", "metadata": {"name": "low"}, "value": 1, "description": "gives way"},
    {"kind": "WorkloadPriorityClass", "metadata": {"name": "high"}, "value": 9, "description": "goes first"},
]


@pytest.fixture(scope="module")
def queue(kind: KindProject) -> Iterator[str]:
    """A LocalQueue of namespace raysweep; afterwards Kueue is gone again."""
    manifests = KEPT["KUEUE_MANIFESTS"]
    Kind().load(kind.cluster.id, "", [KEPT["KUEUE_IMAGE"]])
    applied = kubectl(kind, "apply", "--server-side", "--kustomize", manifests)
    assert applied.returncode == 0, applied.stderr
    objects = yaml.safe_dump_all([{"apiVersion": VERSION} | each for each in MADE])
    try:
        eventually("Kueue's webhook answers", lambda: kind.kubectl("apply", "-f", "-", stdin=objects).returncode == 0)
        assert kind.run("cluster", "scale", str(WORKERS)).returncode == 0
        yield "team"
    finally:
        assert kind.run("cluster", "scale", "3").returncode == 0
        kind.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=objects)
        for webhook in ("mutating", "validating"):  # they would refuse what comes without the pod behind them
            name = f"kueue-{webhook}-webhook-configuration"
            kind.kubectl("delete", f"{webhook}webhookconfiguration", name, "--ignore-not-found")
        kubectl(kind, "delete", "--wait=false", "--ignore-not-found", "--kustomize", manifests)
    eventually("Kueue's pod is gone", lambda: kind.kubectl("get", "namespace", "kueue-system").returncode != 0)


def kubectl(kind: KindProject, *arguments: str) -> subprocess.CompletedProcess[str]:
    """For objects that name their namespace, which a flag may not contradict."""
    command = [word for word in kind.kube.command if not word.startswith("--namespace=")]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=180)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--queue", "tem"), "`--queue tem`: there is no LocalQueue of this name in namespace raysweep: use team"),
        (
            ("--queue", "team", "--priority", "urgent"),
            "`--priority urgent`: there is no WorkloadPriorityClass of this name: use high or low",
        ),
    ],
)
def test_what_would_wait_for_ever_is_refused(kind: KindProject, queue: str, flags: tuple[str, ...], said: str) -> None:
    done = kind.run("rayjob", "asha", "--name", f"no-{os.getpid()}", "--task", "digits", *flags)
    assert done.returncode == 2, done.stdout
    assert said in done.stdout
    assert not kind.get("rayjobs")


def test_the_second_waits_and_one_of_higher_priority_goes_first_and_nothing_is_lost(
    kind: KindProject, queue: str
) -> None:
    """Each says why it waits; the preempted sweep goes on from its storage."""
    slow_task(kind.folder)
    first, second, urgent = (f"queued-{which}-{os.getpid()}" for which in ("first", "second", "urgent"))

    def command(name: str, priority: str, *flags: str) -> list[str]:
        return ["rayjob", "random_search", "--name", name, "--queue", queue, "--priority", priority, *flags]

    short = ("--task", "quadratic", "--samples", "4", "--max-iterations", "3")
    long = ("--task", "slow", "--samples", "4", "--max-iterations", "15")
    with kind.start(*command(first, "low", *long)) as a:
        eventually("the first one runs", lambda: kind.results(first) >= 2, 300)
        with kind.start(*command(second, "low", *short)) as c:
            eventually("the second one waits", lambda: bool(waits_for(kind, second)))
            eventually("two more results", lambda: kind.results(first) >= 4)
            with kind.start(*command(urgent, "high", *short)) as b:
                said = {name: job.communicate(timeout=900)[0] for name, job in ((urgent, b), (first, a), (second, c))}
    print("\n".join(f"== {name}\n{text}" for name, text in said.items()))
    assert [job.returncode for job in (a, b, c)] == [0, 0, 0]
    assert "insufficient unused quota for memory in flavor one" in said[second]
    assert "Preempted to accommodate a workload" in said[first]
    check_nothing_lost(kind, first, 4)
    print(f"preempted: epochs repeated by trial {repeated(kind, first)}")
    assert max(repeated(kind, first).values()) <= 1
    assert turns(kind, first, second, urgent) in (
        [first, urgent, first, second],
        [first, urgent, second, first],
    )
    check_nothing_of_it_runs(kind)


def waits_for(kind: KindProject, name: str) -> str:
    """Kueue's reason, of a RayJob that is there."""
    found = kind.kube.get("RayJob", rayjob.job_name("random_search", name))
    return kueue.why_waiting(kind.kube, found["metadata"]["uid"]) if found else ""


def turns(kind: KindProject, *names: str) -> list[str]:
    """Whose results came one after the other: two sweeps at a time would take turns."""
    results = [(event["time"], name) for name in names for event in sweep_of(kind, name) if event["type"] == "result"]
    return [name for name, _ in itertools.groupby(name for _, name in sorted(results))]
