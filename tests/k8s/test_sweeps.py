"""Sweeps on the real cluster: every strategy by plain `ray job submit`, some as RayJobs, growing, and under faults.

Each fault comes when the journal has so many results, never after a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import yaml

from raysweep import checkpoint, journal
from raysweep.storage import open_storage
from raysweep.sweep import strategies
from raysweep.targets import manifests
from tests.k8s.kind_project import KindProject, eventually, slow_task

QUICK = ("asha",)
full = pytest.mark.full


def sweep_of(kind: KindProject, name: str) -> list[dict]:
    kind.state(name)  # sets what S3 needs
    return journal.read(open_storage(kind.cluster.storage).child(name))


def check_nothing_lost(kind: KindProject, name: str, trials: int) -> None:
    """Every trial ended well, from its last epoch on, and its checkpoint can be loaded from the store."""
    events, state = sweep_of(kind, name), kind.state(name)
    place = open_storage(kind.cluster.storage).child(name)
    assert len(state.trials) == trials
    assert {trial.status for trial in state.trials.values()} <= {"finished", "stopped"}
    for trial in state.trials.values():
        assert trial.checkpoint is not None
        checkpoint.load(place, trial.checkpoint)
    ended: set[str] = set()
    for event in events:
        if event["type"] == "result":
            assert event["trial"] not in ended, "a finished trial ran again"
        if event["type"] == "complete" and event["status"] in ("finished", "stopped"):
            ended.add(event["trial"])


def repeated(kind: KindProject, name: str) -> dict[str, int]:
    """Epochs that a trial did more than once, by trial."""
    seen: dict[tuple[str, int], int] = {}
    for event in sweep_of(kind, name):
        if event["type"] == "result":
            key = (event["trial"], event["iteration"])
            seen[key] = seen.get(key, 0) + 1
    found: dict[str, int] = {}
    for (trial, _), count in seen.items():
        found[trial] = found.get(trial, 0) + count - 1
    return found


def busy_workers(kind: KindProject, name: str) -> list[str]:
    """The pods on which trials of a sweep run that have reported."""
    nodes = {trial.last.node for trial in kind.state(name).trials.values() if trial.last and not trial.ended}
    return [pod["metadata"]["name"] for pod in kind.workers() if pod["metadata"]["name"] in nodes]


@pytest.mark.parametrize("strategy", [pytest.param(name, marks=() if name in QUICK else full) for name in strategies()])
def test_each_strategy_by_plain_ray_job_submit(kind: KindProject, strategy: str) -> None:
    name = f"plain-{strategy.replace('_', '-')}-{os.getpid()}"
    grid = ["--resolution", "2"] if strategy == "grid" else ["--samples", "4"]
    flags = ["--task", "digits", "--name", name, "--max-iterations", "3", *grid]
    if strategy == "grid":
        flags += ["--concurrency", "3"]
    done = kind.ray_job_submit(f"jobs/{strategy}.py", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    state = kind.state(name)
    assert {trial.status for trial in state.trials.values()} <= {"finished", "stopped"}
    saved = [key for key in open_storage(kind.cluster.storage).child(name).list() if "checkpoint" in key]
    assert saved


@pytest.mark.parametrize("strategy", ["asha", pytest.param("tpe_asha", marks=full), pytest.param("pbt", marks=full)])
def test_a_rayjob_leaves_its_results_and_its_log_and_nothing_else(kind: KindProject, strategy: str) -> None:
    name = f"rayjob-{strategy.replace('_', '-')}-{os.getpid()}"
    began = time.time()
    done = kind.run("rayjob", strategy, "--name", name, "--task", "digits", "--samples", "4", "--max-iterations", "3")
    assert done.returncode == 0, done.stdout
    first = min(event["time"] for event in sweep_of(kind, name) if event["type"] == "result")
    print(f"{strategy}: first result {first - began:.1f} s after the command")
    place = open_storage(kind.cluster.storage).child(name)
    assert {"best.json", "trials.csv", "sweep.json"} <= set(place.list())
    (log,) = place.list("logs")
    assert place.get(log).decode().endswith("exit code 0\n")
    assert not kind.get("rayjobs")
    eventually(
        "its pods are gone", lambda: not kind.get("pods", "--selector=ray.io/cluster!=raysweep,raysweep/role=ray")
    )
    assert kind.kube.names("RayCluster") == ["raysweep"]


def test_a_rayjob_with_bad_input_is_not_tried_again(kind: KindProject) -> None:
    done = kind.run("rayjob", "asha", "--name", f"bad-{os.getpid()}", "--task", "digits", "--cpus-per-trial", "64")
    assert done.returncode == 2, done.stdout
    assert "the largest node of the cluster has 1 CPU" in done.stdout
    assert not kind.get("rayjobs")


def test_the_cluster_grows_to_its_most_at_once_and_shrinks_when_idle(kind: KindProject) -> None:
    slow_task(kind.folder)
    eventually("one worker", lambda: kind.ready_workers() == 1, 240)
    name = f"grow-{os.getpid()}"
    began = time.monotonic()
    done = kind.ray_job_submit("jobs/random_search.py", "--task", "slow", "--name", name, "--samples", "9", wait=False)
    assert done.returncode == 0, done.stderr
    asked = eventually("three workers asked for", lambda: len(kind.workers()) == 3)
    times = sorted(datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) for pod in kind.workers())
    eventually("three workers", lambda: kind.ready_workers() == 3)
    up = time.monotonic() - began
    assert times[-1] - times[-2] <= timedelta(seconds=5), "the two new ones were asked for one after the other"
    eventually(
        "the sweep ended",
        lambda: len(kind.state(name).trials) == 9 and all(t.ended for t in kind.state(name).trials.values()),
        300,
    )
    down = eventually("one worker", lambda: len(kind.workers()) == 1, 240)
    nodes = {result.node for trial in kind.state(name).trials.values() for result in trial.results.values()}
    print(f"3 workers asked for after {asked:.1f} s, ready after {up:.1f} s; back to 1 {down:.1f} s after the end")
    assert len(nodes) == 3


@pytest.mark.parametrize("strategy", ["asha", pytest.param("pbt", marks=full)])
def test_a_deleted_worker_costs_at_most_one_epoch(kind: KindProject, strategy: str) -> None:
    slow_task(kind.folder)
    name = f"worker-{strategy}-{os.getpid()}"
    done = kind.ray_job_submit(f"jobs/{strategy}.py", "--task", "slow", "--name", name, "--samples", "4", wait=False)
    assert done.returncode == 0, done.stderr
    eventually("six results", lambda: kind.results(name) >= 6, 300)
    eventually("a worker trains", lambda: bool(busy_workers(kind, name)))
    victim = busy_workers(kind, name)[0]
    kind.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
    eventually(
        "the sweep ended",
        lambda: len(kind.state(name).trials) == 4 and all(t.ended for t in kind.state(name).trials.values()),
        420,
    )
    check_nothing_lost(kind, name, 4)
    if strategy == "asha":
        assert max(repeated(kind, name).values()) <= 1


@pytest.mark.parametrize("strategy", ["asha", pytest.param("pbt", marks=full)])
def test_a_deleted_head_ends_in_a_finished_sweep(kind: KindProject, strategy: str) -> None:
    """As a RayJob: the operator makes a new head and gives it the job again, which continues the sweep."""
    slow_task(kind.folder)
    name = f"head-{strategy}-{os.getpid()}"
    with kind.start("rayjob", strategy, "--name", name, "--task", "slow", "--samples", "4") as job:
        eventually("six results", lambda: kind.results(name) >= 6, 300)
        (head,) = kind.pods("ray.io/node-type=head", "ray.io/cluster!=raysweep")
        kind.kubectl("delete", "pod", head["metadata"]["name"], "--wait=false")
        out, _ = job.communicate(timeout=900)
    assert job.returncode == 0, out
    check_nothing_lost(kind, name, 4)
    if strategy == "asha":
        assert max(repeated(kind, name).values()) <= 1


@pytest.fixture
def no_more_pods(kind: KindProject) -> Iterator[None]:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "1"}}}
    assert kind.kubectl("create", "-f", "-", stdin=json.dumps(quota)).returncode == 0
    yield
    kind.kubectl("delete", "resourcequota", "none")


def refusal(kind: KindProject, **env: str) -> str:
    """The last line of a RayJob that cannot start; nothing of it is left."""
    project = KindProject(kind.folder, kind.env | env)
    done = project.run("rayjob", "asha", "--name", f"no-{os.getpid()}", "--task", "digits", seconds=240)
    assert done.returncode == 1, done.stdout
    assert not kind.get("rayjobs")
    return done.stdout.strip().splitlines()[-1]


def test_an_image_that_cannot_be_pulled_is_named(kind: KindProject) -> None:
    said = refusal(kind, RAYSWEEP_IMAGE="nowhere.invalid/ray:1")
    assert re.match(r"error: rayjob: pod \S+: (ImagePullBackOff|ErrImagePull): nowhere.invalid/ray:1", said), said


def test_a_quota_that_is_used_up_is_named(kind: KindProject, no_more_pods: None) -> None:
    assert "exceeded quota: none" in refusal(kind)


def test_five_trials_share_the_gpu_of_one_worker_that_comes_from_0(kind: KindProject) -> None:
    """A GPU that is only advertised: scheduler, autoscaler and Ray's fractions are real, the task needs none."""
    slow_task(kind.folder)
    (node,) = (item["metadata"]["name"] for item in kind.get("nodes"))
    status = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "1"}]
    patched = kind.kubectl("patch", "node", node, "--subresource=status", "--type=json", "--patch", json.dumps(status))
    assert patched.returncode == 0, patched.stderr
    kind.kubectl("label", "node", node, "--overwrite", "nvidia.com/gpu.present=true")
    name = f"gpu-{os.getpid()}"
    flags = ["--task", "slow", "--samples", "5", "--gpus-per-trial", "0.2"]
    with with_gpu_workers(kind):
        done = kind.run("rayjob", "random_search", "--name", name, *flags)
    assert done.returncode == 0, done.stdout
    nodes = {result.node for trial in kind.state(name).trials.values() for result in trial.results.values()}
    assert len(nodes) == 1, nodes
    assert "-gpu-worker-" in nodes.pop()
    firsts = [event["time"] for event in sweep_of(kind, name) if event["type"] == "result" and event["iteration"] == 1]
    assert len(firsts) == 5
    assert max(firsts) - min(firsts) < 6 * 2, "the five did not run side by side"


@contextlib.contextmanager
def with_gpu_workers(kind: KindProject) -> Iterator[None]:
    """The cluster's manifests with components/gpu, made small, for RayJobs that are begun meanwhile."""
    path = kind.folder / ".raysweep" / "kubernetes" / "kustomization.yaml"
    before = path.read_text()
    content = yaml.safe_load(before)
    content["components"].append("../../k8s/components/gpu")
    content["patches"] = [each for each in content["patches"] if each["target"]["kind"] != "ConfigMap"]
    content["patches"].append({"target": {"kind": "RayCluster"}, "patch": SMALL_GPU_WORKER})
    path.write_text(yaml.safe_dump(content))
    settings = manifests.find(manifests.render(path.parent), "ConfigMap", "raysweep-settings")
    kind.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump(settings))
    try:
        yield
    finally:
        path.write_text(before)


SMALL_GPU_WORKER = """
- {op: replace, path: /spec/workerGroupSpecs/1/template/spec/containers/0/resources/requests/memory, value: 4Gi}
- {op: replace, path: /spec/workerGroupSpecs/1/template/spec/containers/0/resources/limits/memory, value: 4Gi}
- {op: replace, path: /spec/workerGroupSpecs/1/template/spec/containers/0/resources/requests/cpu, value: 200m}
"""
