"""Sweeps on the real cluster: every strategy by plain `ray job submit`, some as RayJobs, growing, and under faults.

Each fault comes when the journal has so many results, never after a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

from raysweep.clusters.kubernetes import manifests, plan
from raysweep.errors import NotFound
from raysweep.history import checkpoint, journal
from raysweep.storage import open_storage
from raysweep.submit import rayjob
from tests.k8s.kind_project import KindProject, eventually, slow_task
from tests.strategy_kinds import ONE_OF_EACH

full = pytest.mark.full
SIDE_BY_SIDE = 3  # drivers that a head of 3 GB has room for


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
    """Epochs that a trial did more than once, by trial; after an exploit it does its own anew, from a donor's state."""
    seen: dict[tuple[str, int, int], int] = {}
    exploits: dict[str, int] = {}
    for event in sweep_of(kind, name):
        if event["type"] == "exploit":
            exploits[event["trial"]] = exploits.get(event["trial"], 0) + 1
        elif event["type"] == "result":
            key = (event["trial"], exploits.get(event["trial"], 0), event["iteration"])
            seen[key] = seen.get(key, 0) + 1
    found: dict[str, int] = {}
    for (trial, *_), count in seen.items():
        found[trial] = found.get(trial, 0) + count - 1
    return found


def busy_worker(kind: KindProject, name: str) -> str:
    """A pod on which a trial of a sweep runs that has reported, and is not at its end."""
    found: list[str] = []

    def look() -> bool:
        trials = kind.state(name).trials.values()
        nodes = {trial.last.node for trial in trials if trial.last and not trial.ended and trial.last.iteration < 5}
        found[:] = [pod["metadata"]["name"] for pod in kind.workers() if pod["metadata"]["name"] in nodes]
        return bool(found)

    eventually("a worker trains", look)
    return found[0]


def all_ended(kind: KindProject, name: str, trials: int) -> bool:
    found = kind.state(name).trials.values()
    return len(found) == trials and all(trial.ended for trial in found)


def test_a_strategy_of_each_kind_by_plain_ray_job_submit(kind: KindProject) -> None:
    """As many side by side as the head has room for; the cluster grows for them."""
    names = {strategy: f"plain-{strategy.replace('_', '-')}-{os.getpid()}" for strategy in ONE_OF_EACH}
    waiting, running, took = list(names), {}, {}
    while waiting or running:
        while waiting and len(running) < SIDE_BY_SIDE:
            strategy = waiting.pop(0)
            flags = ["--task", "digits", "--max-iterations", "3", "--samples", "4", "--name", names[strategy]]
            done = kind.ray_job_submit(f"jobs/{strategy}.py", *flags, wait=False, job=names[strategy])
            assert done.returncode == 0, done.stdout + done.stderr
            running[strategy] = time.monotonic()
        jobs = kind.jobs()
        for strategy in [each for each in running if jobs[names[each]].ended]:
            took[strategy] = time.monotonic() - running.pop(strategy)
            assert jobs[names[strategy]].exit_code == 0, kind.run("logs", names[strategy]).stdout[-3000:]
        oldest = max([time.monotonic() - began for began in running.values()], default=0)
        assert oldest < 300, f"no end within 300 s: {sorted(running)}"
        time.sleep(1)
    print("seconds, three side by side: " + ", ".join(f"{strategy} {s:.0f}" for strategy, s in took.items()))
    for strategy, name in names.items():
        assert {trial.status for trial in kind.state(name).trials.values()} <= {"finished", "stopped"}, strategy
        saved = [key for key in open_storage(kind.cluster.storage).child(name).list() if "checkpoint" in key]
        assert saved, strategy


class Moments:
    """When what stands between a RayJob's command and its first result was there, in seconds since the command."""

    def __init__(self, kind: KindProject, job: str, name: str) -> None:
        self._kind, self._job, self._name, self._began = kind, job, name, time.time()
        self.seen: dict[str, float] = {}

    def look(self) -> bool:
        """Whether there is nothing more to see."""
        found = self._kind.kube.get("RayJob", self._job) or {}
        status = found.get("status") or {}
        head = self._kind.pods("ray.io/node-type=head", f"ray.io/cluster={status.get('rayClusterName') or 'none'}")
        conditions = [each for pod in head for each in pod["status"].get("conditions", [])]
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        now = {
            "code uploaded, RayJob there": bool(found),
            "head ready": ready,
            "job submitted": bool(status.get("jobId") and status.get("jobStatus")),
            "driver runs": status.get("jobStatus") in ("RUNNING", "SUCCEEDED"),
        }
        for what, true in now.items():
            if true:
                self.seen.setdefault(what, time.time() - self._began)
        return now["driver runs"]

    def __str__(self) -> str:
        events = sweep_of(self._kind, self._name)
        for what, kind in (("sweep begun", "start"), ("first result", "result")):
            self.seen[what] = min(event["time"] for event in events if event["type"] == kind) - self._began
        return ", ".join(f"{what} {seconds:.1f}" for what, seconds in self.seen.items())


SMALL_SWEEP = ["--task", "digits", "--samples", "4", "--max-iterations", "3"]
# Neither its module nor a trial of it can do without the variable.
KEYED_TASK = """
import os

import raysweep
from ray import tune

SPACE = {"x": tune.uniform(0.0, 1.0)}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 3
assert os.environ["SPY_KEY"]


def train(config):
    for _ in raysweep.iterations():
        raysweep.report({"loss": config["x"] + len(os.environ["SPY_KEY"])}, state=config["x"])
"""


def test_a_rayjob_begins_soon_and_leaves_its_results_and_its_log(kind: KindProject) -> None:
    """With a variable of its own, which is a Secret that goes with it."""
    name = f"rayjob-asha-{os.getpid()}"
    moments = Moments(kind, rayjob.job_name("asha", name), name)
    (kind.folder / "tasks" / "keyed.py").write_text(KEYED_TASK)
    keyed = ("--task", "keyed", "--samples", "4", "--env", "SPY_KEY=hush-5551")
    with kind.start("rayjob", "asha", "--name", name, *keyed) as job:
        eventually("the driver runs", moments.look, 240)
        out, _ = job.communicate(timeout=600)
    print(f"seconds since the command: {moments}")
    check_rayjob(kind, name, job.returncode, out)
    assert "hush-5551" not in out
    eventually("its Secret is gone", lambda: not [each for each in names_of(kind, "secrets") if each.endswith("-env")])


def test_rayjobs_of_other_strategies_run_side_by_side_and_nothing_of_any_is_left(kind: KindProject) -> None:
    names = {strategy: f"rayjob-{strategy.replace('_', '-')}-{os.getpid()}" for strategy in ("tpe_asha", "pbt")}
    with contextlib.ExitStack() as stack:
        jobs = {
            name: stack.enter_context(kind.start("rayjob", strategy, "--name", name, *SMALL_SWEEP))
            for strategy, name in names.items()
        }
        said = {name: job.communicate(timeout=600)[0] for name, job in jobs.items()}
    for name, job in jobs.items():
        check_rayjob(kind, name, job.returncode, said[name])
    check_nothing_of_it_runs(kind)


def names_of(kind: KindProject, what: str) -> list[str]:
    return [each["metadata"]["name"] for each in kind.get(what)]


def check_rayjob(kind: KindProject, name: str, code: int | None, said: str) -> None:
    assert (code, "SUCCEEDED" in said) == (0, True), said
    kind.state(name)  # sets what S3 needs
    place = open_storage(kind.cluster.storage).child(name)
    assert {"best.json", "trials.csv", "sweep.json"} <= set(place.list())
    (log,) = place.list("logs/")
    assert place.get(log).decode().endswith("exit code 0\n")


def check_nothing_of_it_runs(kind: KindProject) -> None:
    assert not kind.get("rayjobs")
    eventually("its pods are gone", lambda: not kind.get("pods", "--selector=ray.io/cluster,ray.io/cluster!=raysweep"))
    eventually("its cluster is gone", lambda: kind.kube.names("RayCluster") == ["raysweep"])


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
    eventually("the sweep ended", lambda: all_ended(kind, name, 9), 300)
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
    kind.kubectl("delete", "pod", busy_worker(kind, name), "--grace-period=0", "--force")
    eventually("the sweep ended", lambda: all_ended(kind, name, 4), 420)
    check_nothing_lost(kind, name, 4)
    print(f"{strategy}, worker killed: epochs repeated by trial {repeated(kind, name)}")
    assert max(repeated(kind, name).values()) <= 1


def test_a_worker_that_is_deleted_gracefully_lets_its_trial_end(kind: KindProject) -> None:
    """Its trial needs less than the minute that a pod is given, and so repeats nothing."""
    slow_task(kind.folder)
    name = f"grace-{os.getpid()}"
    flags = ["--task", "slow", "--name", name, "--samples", "3"]
    done = kind.ray_job_submit("jobs/random_search.py", *flags, wait=False)
    assert done.returncode == 0, done.stderr
    victim = busy_worker(kind, name)
    before = {key: trial.last.iteration for key, trial in kind.state(name).trials.items() if trial.last}
    kind.kubectl("delete", "pod", victim, "--wait=false")
    eventually("the sweep ended", lambda: all_ended(kind, name, 3), 300)
    check_nothing_lost(kind, name, 3)
    on_it = {
        key for key, trial in kind.state(name).trials.items() if victim in {r.node for r in trial.results.values()}
    }
    assert any(before.get(key, 0) < 6 for key in on_it), "the trial had ended before the pod was deleted"
    print(f"worker deleted: epochs repeated by trial {repeated(kind, name)}")
    assert max(repeated(kind, name).values()) == 0


SECRET_IN = """
import pathlib, sys
secrets = sys.stdin.read().split()
files = [*pathlib.Path("/proc").glob("[0-9]*/environ"), *pathlib.Path("/proc").glob("[0-9]*/cmdline")]
files += [each for each in pathlib.Path("/tmp/ray/session_latest/logs").rglob("*") if each.is_file()]
for each in files:
    try:
        text = each.read_bytes()
    except OSError:
        continue
    print("SECRET" if any(secret.encode() in text for secret in secrets) else "clean", each)
"""


def test_no_secret_is_in_environment_command_or_log_of_any_process_of_a_sweep(kind: KindProject) -> None:
    """While trials run, and in the logs of driver, trials and Ray's agents afterwards; and in the log that is kept."""
    slow_task(kind.folder)
    keys = Path(kind.cluster.credentials_path).read_text().splitlines()
    secrets = [line.split(" = ")[1].strip() for line in keys if "secret" in line]
    secrets.append(Path(kind.cluster.token_path).read_text().strip())
    name = f"secret-{os.getpid()}"
    flags = ["--task", "slow", "--name", name, "--samples", "2"]
    assert kind.ray_job_submit("jobs/random_search.py", *flags, wait=False).returncode == 0
    eventually("it trains", lambda: kind.results(name) >= 1, 240)
    looked = " ".join(search(kind, secrets))
    eventually("the sweep ended", lambda: all_ended(kind, name, 2), 240)
    looked += " ".join(search(kind, secrets))
    for log in ("environ", "job-driver-", "runtime_env_agent.log", "worker-"):
        assert log in looked, log
    for sweep in open_storage(kind.cluster.storage).list():
        if sweep.endswith((".log", ".json", ".jsonl", ".csv", ".html")):
            with contextlib.suppress(NotFound):  # what a job leaves for its resubmitter goes at its end
                text = open_storage(kind.cluster.storage).get(sweep).decode(errors="replace")
                assert not [secret for secret in secrets if secret in text], sweep


def search(kind: KindProject, secrets: list[str]) -> list[str]:
    """The files that were searched in every pod of Ray; none has a secret, and no container has printed one."""
    looked = []
    for pod in kind.pods("raysweep/role=ray"):
        if pod["status"]["phase"] != "Running":  # a worker that is about to come
            continue
        where = ("--stdin", pod["metadata"]["name"], f"--container={pod['spec']['containers'][0]['name']}")
        done = kind.kubectl("exec", *where, "--", "python", "-c", SECRET_IN, stdin="\n".join(secrets))
        assert done.returncode == 0, done.stderr
        assert "SECRET" not in done.stdout, done.stdout
        looked += done.stdout.split()
        printed = kind.kubectl("logs", pod["metadata"]["name"], "--all-containers").stdout
        assert not [secret for secret in secrets if secret in printed]
    return looked


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
    print(f"{strategy}, head killed: epochs repeated by trial {repeated(kind, name)}")
    assert max(repeated(kind, name).values()) <= 1


def test_jobs_that_are_lost_with_the_head_go_on_followed_or_not(kind: KindProject) -> None:
    """One by plain `ray job submit`, which nobody follows; one by `raysweep submit`, which follows its next life."""
    slow_task(kind.folder)
    alone, followed = f"alone-{os.getpid()}", f"followed-{os.getpid()}"
    samples_of = {alone: 8, followed: 4}
    flags = ["--task", "slow", "--cpus-per-trial", "0.5", "--concurrency", "2", "--samples"]
    # It begins earlier, and must not be over when the other one has begun.
    done = kind.ray_job_submit("jobs/random_search.py", *flags, "8", "--name", alone, wait=False, job=alone)
    assert done.returncode == 0, done.stdout + done.stderr
    with kind.start("submit", "asha", *flags, "4", "--name", followed) as job:
        eventually("results of both", lambda: min(kind.results(alone), kind.results(followed)) >= 3, 300)
        before = {name: sweep_of(kind, name) for name in (alone, followed)}
        assert not any(all_ended(kind, name, samples) for name, samples in samples_of.items())
        (head,) = kind.pods("ray.io/node-type=head", "ray.io/cluster=raysweep")
        kind.kubectl("delete", "pod", head["metadata"]["name"], "--wait=false")
        out, _ = job.communicate(timeout=900)
    assert job.returncode == 0, out
    assert "waiting until the cluster submits it again" in out
    assert kind.run("cluster", "status").returncode == 0  # forwards the port of the new head
    eventually("the end of the one that nobody follows", lambda: all_ended(kind, alone, 8), 600)
    assert f"{alone}-life2" in kind.jobs()
    for name, events in before.items():
        assert sweep_of(kind, name)[: len(events)] == events
        check_nothing_lost(kind, name, samples_of[name])


@pytest.fixture
def no_more_pods(kind: KindProject) -> Iterator[None]:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "1"}}}
    assert kind.kubectl("create", "-f", "-", stdin=json.dumps(quota)).returncode == 0
    yield
    kind.kubectl("delete", "resourcequota", "none")


def refusal(kind: KindProject, flags: Sequence[str] = ("--task", "digits"), **env: str) -> str:
    """The last line of a RayJob that cannot start; nothing of it is left."""
    project = KindProject(kind.folder, kind.env | env)
    done = project.run("rayjob", "asha", "--name", f"no-{time.time_ns()}", *flags, seconds=240)
    assert done.returncode == 1, done.stdout
    assert not kind.get("rayjobs")
    return done.stdout.strip().splitlines()[-1]


def test_an_image_that_cannot_be_pulled_is_named(kind: KindProject) -> None:
    said = refusal(kind, RAYSWEEP_IMAGE="nowhere.invalid/ray:1")
    assert re.match(r"error: rayjob: pod \S+: (ImagePullBackOff|ErrImagePull): nowhere.invalid/ray:1", said), said


def test_a_quota_that_is_used_up_is_named(kind: KindProject, no_more_pods: None) -> None:
    assert "exceeded quota: none" in refusal(kind)


@pytest.mark.parametrize("group", ["headGroupSpec", pytest.param("workerGroupSpecs/0", marks=full)])
def test_what_no_node_has_is_named_within_seconds(kind: KindProject, group: str) -> None:
    resources = f"/spec/{group}/template/spec/containers/0/resources"
    asked = [
        {"op": "replace", "path": f"{resources}/{kind}/memory", "value": "900Gi"} for kind in ("requests", "limits")
    ]
    began = time.monotonic()
    command = ["rayjob", "asha", "--name", f"no-{time.time_ns()}", "--task", "digits"]
    with applied(kind, patch=yaml.safe_dump(asked)), kind.start(*command) as job:
        assert job.stdout
        said = next(line for line in job.stdout if "Unschedulable, it asks for " in line and "largest" in line)
        took = time.monotonic() - began
        rest = job.stdout.read()
    print(f"an impossible {group} is named after {took:.1f} s: {said}")
    assert re.search(r"memory 900Gi.*, and the largest node has memory \d+Ki: ", said), said
    assert (job.returncode, rest.strip().splitlines()[-1].startswith("error: rayjob: pod ")) == (1, True), rest
    assert not kind.get("rayjobs")
    assert took < 60


@pytest.fixture
def gpu(kind: KindProject) -> Iterator[None]:
    """A GPU that the node advertises, and does not have."""
    (node,) = (item["metadata"]["name"] for item in kind.get("nodes"))

    def status(*operations: dict[str, str]) -> None:
        flags = ["--subresource=status", "--type=json", "--patch", json.dumps(operations)]
        done = kind.kubectl("patch", "node", node, *flags)
        assert done.returncode == 0, done.stderr

    path = "/status/capacity/nvidia.com~1gpu"
    status({"op": "add", "path": path, "value": "1"})
    kind.kubectl("label", "node", node, "--overwrite", "nvidia.com/gpu.present=true")
    yield
    status({"op": "remove", "path": path}, {"op": "remove", "path": path.replace("capacity", "allocatable")})
    kind.kubectl("label", "node", node, "nvidia.com/gpu.present-")


def test_five_trials_share_the_gpu_of_one_worker_that_comes_from_0(kind: KindProject, gpu: None) -> None:
    """A GPU that is only advertised: scheduler, autoscaler and Ray's fractions are real, the task needs none."""
    slow_task(kind.folder)
    name = f"gpu-{os.getpid()}"
    flags = ["--task", "slow", "--samples", "5", "--gpus-per-trial", "0.2", "--max-iterations", "15"]
    with applied(kind, "gpu", SMALL_GPU_WORKER):
        done = kind.run("rayjob", "random_search", "--name", name, *flags)
    assert done.returncode == 0, done.stdout
    nodes = {result.node for trial in kind.state(name).trials.values() for result in trial.results.values()}
    assert len(nodes) == 1, nodes
    assert "-gpu-worker-" in nodes.pop()
    events = sweep_of(kind, name)
    firsts = [event["time"] for event in events if event["type"] == "result" and event["iteration"] == 1]
    ends = [event["time"] for event in events if event["type"] == "complete"]
    assert len(firsts) == len(ends) == 5
    assert max(firsts) < min(ends), "the five did not run side by side"


@full
def test_a_gpu_that_no_node_has_is_named(kind: KindProject) -> None:
    """The autoscaler asks for the worker, and Kubernetes has no node for it."""
    flags = ["--task", "digits", "--gpus-per-trial", "0.5"]
    with applied(kind, "gpu", SMALL_GPU_WORKER):
        said = refusal(kind, flags)
    assert re.search(r"nvidia.com/gpu 1: .*|nvidia.com/gpu 1, and the largest node has .*nvidia.com/gpu 0", said), said


@contextlib.contextmanager
def applied(kind: KindProject, component: str | None = None, patch: str = "[]") -> Iterator[None]:
    """The cluster's manifests with a component and a patch of the cluster, for RayJobs that are begun meanwhile."""
    folder = kind.folder / ".raysweep" / "kubernetes"
    path = folder / "kustomization.yaml"
    before = path.read_text()
    content = yaml.safe_load(before)
    if component:
        content["components"].append(f"../../k8s/components/{component}")
    content["patches"].append({"target": {"kind": "RayCluster"}, "patch": patch})
    path.write_text(yaml.safe_dump(content))
    try:
        kind.kube.apply([settings_of(plan.resize(folder, 3))])
        yield
    finally:
        path.write_text(before)
        kind.kube.apply([settings_of(manifests.render(folder))])


def settings_of(objects: list[manifests.Object]) -> manifests.Object:
    found = manifests.find(objects, "ConfigMap", "raysweep-settings")
    assert found
    return found


SMALL_GPU_WORKER = """
- {op: replace, path: /spec/workerGroupSpecs/1/template/spec/containers/0/resources/requests/memory, value: 4Gi}
- {op: replace, path: /spec/workerGroupSpecs/1/template/spec/containers/0/resources/limits/memory, value: 4Gi}
- {op: replace, path: /spec/workerGroupSpecs/1/template/spec/containers/0/resources/requests/cpu, value: 200m}
"""
