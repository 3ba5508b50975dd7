"""Plain Ray Tune under the same faults: what it does with them, for the column beside ours in docs/faults.md.

    python -m tests.chaos.plain FAULT...                   runs these faults, prints one line of JSON for each
    python -m tests.chaos.plain --all                      runs them all; those of nodes and pods want `make image`

The sweep is that of a cell (ASHA, 8 trials of 9 iterations of the bowl), written as Ray's documentation has it: a
function trainable that reports a checkpoint in each iteration, a Tuner, `Tuner.restore` after a death of the driver.
It runs in a private Ray, with a folder or a bucket behind the proxy, or as a job on the cluster of containers or of
pods. What happened is read from the steps that the trials note, not from Ray's own summary.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.errors import ClusterError
from raysweep.storage import Storage, open_storage

if TYPE_CHECKING:
    from tests.docker.conftest import DockerProject
    from tests.k8s.kind_project import KindProject
    from tests.s3 import S3Proxy

SAMPLES, ITERATIONS, AT, PACE_S, NODE_PACE_S = 8, 9, 3, 0.1, 0.5
BEFORE = 12  # steps
EAT = "armed/eat"
LIMIT_S, LONG_S = 90.0, 300.0
INSIDE = {
    "exception": "raise", "exception-charged": "raise", "trial-memory": "memory", "nan": "nan", "trial-hung": "hang",
}  # fmt: skip
ALLOWED = {"exception": "1"}  # --max-failures of ours, max_failures of Ray's
OUTSIDE = ("trial-killed", "driver-killed", "driver-hung", "state-damaged", "submitted-twice", "stopped", "disk-full")
STORE = ("s3-503", "s3-hangs", "s3-resets", "s3-refuses", "s3-loses")
NODES = ("node-killed", "node-sigterm", "node-cut", "node-memory", "head-killed")
PODS = ("pod-killed", "pod-deleted", "head-pod-deleted")


def train(config: dict[str, Any]) -> None:
    """The bowl, as a function trainable."""
    import ctypes

    from ray import tune

    notes = open_storage(config["notes"])
    path, height = [], 1.0
    if saved := tune.get_checkpoint():
        with saved.as_directory() as place:
            path, height = json.loads((Path(place) / "state.json").read_text())
    for iteration in range(len(path) + 1, ITERATIONS + 1):
        step = (time.time_ns(), tune.get_context().get_trial_id(), iteration, os.getpid(), platform.node())
        notes.put(",".join(map(str, step)), b"")
        time.sleep(config["pace_s"])
        height *= config["pace"]
        path.append(iteration)
        loss = (config["x"] - 1) ** 2 + (config["y"] + 2) ** 2 + height
        if notes.exists(EAT):
            notes.delete(EAT)
            eaten = []
            while True:
                eaten.append(bytearray(os.urandom(1 << 20)) * 64)  # touched, so that it counts
                time.sleep(0.1)  # the monitor looks four times a second
        for fault in INSIDE.values():
            if iteration != AT or not notes.exists(f"armed/{fault}"):
                continue
            notes.delete(f"armed/{fault}")
            if fault == "raise":
                raise ValueError("the data is upside down")
            if fault == "memory":
                bytearray(1 << 60)
            if fault == "hang":
                ctypes.PyDLL(None).sleep(3600)
            loss = float("nan")
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "state.json").write_text(json.dumps([path, height]))
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(place))


def drive(notes: str, storage: str, cpus: str, pace_s: str, failures: str = "0") -> None:
    """The driver, which restores the sweep if there is one.

    Args:
        notes: storage where trials note their steps.
        storage: Ray's storage_path; an S3 URL may have a query.
        cpus: of a trial.
        pace_s: of an iteration, in seconds.
        failures: of a trial, after which it is given up.
    """
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    private = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": 2, "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level="ERROR", **private)
    space = {
        "x": tune.uniform(-5.0, 5.0), "y": tune.uniform(-5.0, 5.0), "pace": tune.choice([0.5, 0.7, 0.9]),
        "notes": notes, "pace_s": float(pace_s),
    }  # fmt: skip
    trainable = tune.with_resources(train, {"cpu": float(cpus)})
    place, mark, query = storage.partition("?")
    if tune.Tuner.can_restore(sweep := f"{place}/sweep{mark}{query}"):
        tuner = tune.Tuner.restore(sweep, trainable, resume_unfinished=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="loss", mode="min", scheduler=ASHAScheduler(max_t=ITERATIONS), num_samples=SAMPLES
            ),
            run_config=tune.RunConfig(
                name="sweep", storage_path=storage, verbose=0,
                failure_config=tune.FailureConfig(max_failures=int(failures)),
            ),
        )  # fmt: skip
    found = tuner.fit()
    lost = sum(not _whole(result.checkpoint) for result in found)
    print("found", json.dumps({"results": len(found), "errors": found.num_errors, "lost": lost}), flush=True)


def _whole(checkpoint: Any) -> bool:
    """Whether a trial's last checkpoint is there and can be read."""
    try:
        with checkpoint.as_directory() as place:
            return bool(json.loads((Path(place) / "state.json").read_text()))
    except (OSError, ValueError, AttributeError):  # none, or not the one that was reported
        return False


class Run:
    """One run of the driver, and what its trials noted."""

    def __init__(self, notes: Storage, start: Callable[[], subprocess.Popen[str]], limit_s: float = LIMIT_S) -> None:
        self.notes, self._start, self._limit_s = notes, start, limit_s
        self.process = start()

    def steps(self) -> list[list[str]]:
        """When, trial, iteration, process and node, in the order in which they began."""
        return sorted(key.split(",") for key in self.notes.list() if "," in key)

    def after(self, steps: int) -> None:
        """Waits for so many."""
        limit = time.monotonic() + self._limit_s
        while len(self.steps()) < steps and time.monotonic() < limit:
            time.sleep(0.02)

    def again(self) -> None:
        """The driver once more."""
        self.process = self._start()

    def kill(self) -> None:
        """The driver, and with it the private Ray that it began."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> dict[str, Any]:
        """What it came to."""
        try:
            out, _ = self.process.communicate(timeout=self._limit_s)
            code: int | str = self.process.returncode
        except subprocess.TimeoutExpired:
            self.kill()
            out, code = "", f"hung for {self._limit_s:g} s"
        steps = Counter((line[1], line[2]) for line in self.steps())
        trials = {trial for trial, _ in steps}
        told = next((json.loads(line[6:]) for line in reversed(out.splitlines()) if line.startswith("found ")), {})
        return {"exit": code, "trials": len(trials), "repeated": sum(steps.values()) - len(steps), **told}


def privately(folder: Path, storage: str, limit_s: float = LIMIT_S, failures: str = "0", **more: str) -> Run:
    """In a private Ray of this machine."""
    notes = folder / "notes"
    notes.mkdir(exist_ok=True)
    code = "import sys; from tests.chaos.plain import drive; drive(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(notes), storage, "1", str(PACE_S), failures]
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2]), "RAY_USAGE_STATS_ENABLED": "0"} | more

    def start() -> subprocess.Popen[str]:
        log = (folder / "log").open("a")
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env, start_new_session=True)

    return Run(open_storage(str(notes)), start, limit_s)


def run(fault: str) -> dict[str, Any]:
    """One fault on this machine, in folders of its own."""
    with tempfile.TemporaryDirectory(prefix="plain-") as place:
        folder, storage = Path(place) / "cell", Path(place) / "runs"
        for each in (folder, storage):
            each.mkdir()
        if fault in STORE:
            return {"fault": fault, **_store(fault, folder)}
        small = fault == "disk-full"
        if small:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(storage)], check=True)
        try:
            return {"fault": fault, **_run(fault, folder, storage)}
        finally:
            if small:
                subprocess.run(["umount", "--lazy", str(storage)], check=True)


def _run(fault: str, folder: Path, storage: Path) -> dict[str, Any]:
    if fault in INSIDE:
        (folder / "notes" / "armed").mkdir(parents=True)
        (folder / "notes" / "armed" / INSIDE[fault]).touch()
    sweep = privately(folder, str(storage), failures=ALLOWED.get(fault, "0"))
    if fault in OUTSIDE:
        sweep.after(BEFORE)
    if fault == "trial-killed":
        os.kill(int(sweep.steps()[-1][3]), signal.SIGKILL)
    elif fault == "driver-killed":
        sweep.kill()
        sweep.again()
    elif fault == "driver-hung":
        os.kill(sweep.process.pid, signal.SIGSTOP)
        second = privately(folder, str(storage))
        second.after(len(sweep.steps()) + 1)
        os.kill(sweep.process.pid, signal.SIGCONT)
        code = second.end()["exit"]
        return {**sweep.end(), "second": code}
    elif fault == "state-damaged":
        sweep.kill()
        for state in (storage / "sweep").glob("experiment_state-*.json"):
            state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
        sweep.again()
    elif fault == "stopped":
        os.kill(sweep.process.pid, signal.SIGTERM)
        sweep.process.wait()
        sweep.again()
    elif fault == "submitted-twice":
        second = privately(folder, str(storage))
        return {**sweep.end(), "second": second.end()["exit"]}
    elif fault == "disk-full":
        with (storage / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(2**16)):
                    pass
            except OSError:
                pass
    return sweep.end()


def _store(fault: str, folder: Path) -> dict[str, Any]:
    """A fault of the store, which pyarrow reaches through the proxy."""
    from tests import s3
    from tests.chaos.test_storage import AWAY_S, EVERY, HANGS_S

    with s3.running_s3_server() as server, s3.running_s3_proxy(server) as proxy:
        where = proxy.endpoint.removeprefix("http://")
        storage = f"{proxy.new_bucket()}/runs?scheme=http&endpoint_override={where}&region=us-east-1"
        # Checksums by default would be sent in chunks, which the proxy does not take.
        sweep = privately(folder, storage, LONG_S, AWS_REQUEST_CHECKSUM_CALCULATION="when_required", **proxy.env)
        sweep.after(BEFORE)
        if fault == "s3-503":
            _for_a_while(proxy, proxy.unavailable, AWAY_S)
        elif fault == "s3-hangs":
            _for_a_while(proxy, proxy.hang, HANGS_S)
        for put in ("PutObject", "UploadPart"):  # pyarrow sends the smallest object in parts
            if fault == "s3-resets":
                proxy.drop_answer(put, nth=0, every=EVERY)
            elif fault == "s3-refuses":
                proxy.refuse(put, nth=0, every=EVERY, status=503)
            elif fault == "s3-loses":
                proxy.lose(put, key="*state.json", nth=0, every=EVERY)
        return sweep.end()


def _for_a_while(proxy: S3Proxy, fault: Callable[[], None], seconds: float) -> None:
    fault()
    time.sleep(seconds)
    proxy.heal()


def as_job(fault: str, ray: list[str], project: Path, env: dict[str, str], store: str, cpus: float = 0.4) -> Run:
    """As a job on a cluster, whose own store keeps what it saves; `store` is that store's address there."""
    from raysweep.targets.store import STORAGE

    notes, storage = f"{STORAGE}/plain/{fault}/notes", f"{STORAGE}/plain/{fault}/runs"
    query = f"?scheme=http&endpoint_override={store}&region=us-east-1"
    words = ["python", "-c", "import sys, plain; plain.drive(*sys.argv[1:])"]
    job = [*ray, "job", "submit", "--working-dir", ".", "--", *words, notes, storage + query]
    shutil.copy(__file__, project / "plain.py")

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*job, str(cpus), str(NODE_PACE_S)], cwd=project, env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    run = Run(open_storage(notes), start, LONG_S)
    run.after(BEFORE)
    return run


def on_nodes(faults: list[str]) -> Iterator[dict[str, Any]]:
    """Faults of nodes: the driver is a job on a cluster of containers."""
    from tests.docker.conftest import running_cluster, temporary_project

    with (
        tempfile.TemporaryDirectory(prefix="plain-") as place,
        temporary_project(Path(place)) as project,
        running_cluster(project),
    ):
        for fault in faults:
            yield {"fault": fault, **_node(fault, project)}
            _wait_until_healthy(project)


def _node(fault: str, project: DockerProject) -> dict[str, Any]:
    from tests.docker.conftest import docker

    cpus = 1 if fault == "node-memory" else 0.4
    sweep = as_job(fault, project.ray, project.folder, project.env | project.ray_env, "store:8333", cpus)
    if fault == "head-killed":
        (head,) = project.containers("head")
        os.kill(head["State"]["Pid"], signal.SIGKILL)
        sweep.process.communicate()
        _wait_until_healthy(project)
        sweep.again()
        return sweep.end()
    busy = sweep.steps()[-1][4]
    victim = next(each for each in project.containers("worker") if each["Config"]["Hostname"] == busy)
    if fault == "node-memory":
        sweep.notes.put(EAT, b"")
    elif fault == "node-cut":
        (network,) = victim["NetworkSettings"]["Networks"]
        docker("network", "disconnect", network, victim["Id"])
        time.sleep(60)
        docker("network", "connect", "--alias", "worker", network, victim["Id"])
    else:
        os.kill(victim["State"]["Pid"], signal.SIGKILL if fault == "node-killed" else signal.SIGTERM)
    return sweep.end()


def _wait_until_healthy(project: DockerProject) -> None:
    from tests.chaos.cell import until

    until("all containers are healthy", lambda: project.healthy)


def on_pods(faults: list[str]) -> Iterator[dict[str, Any]]:
    """Faults of pods: the driver is a job on the Ray cluster of a kind cluster."""
    from tests.k8s.conftest import running_kind

    with tempfile.TemporaryDirectory(prefix="plain-") as place, running_kind(Path(place)) as kind:
        kind.state("none")  # sets what S3 needs
        for fault in faults:
            yield {"fault": fault, **_pod(fault, kind)}


def _pod(fault: str, kind: KindProject) -> dict[str, Any]:
    from tests.chaos.cell import until

    sweep = as_job(fault, kind.ray, kind.folder, kind.env | kind.ray_env, "raysweep-store:8333")
    if fault == "head-pod-deleted":
        (head,) = kind.pods("ray.io/node-type=head")
        kind.kubectl("delete", "pod", head["metadata"]["name"])
        sweep.process.communicate()
        until("another head answers", lambda: _forgot(kind), LONG_S)
        sweep.again()
    else:
        how = ("--grace-period=0", "--force") if fault == "pod-killed" else ("--wait=false",)
        kind.kubectl("delete", "pod", sweep.steps()[-1][4], *how)
    return sweep.end()


def _forgot(kind: KindProject) -> bool:
    """Whether a head answers that knows of no job: it is a new one."""
    with contextlib.suppress(ClusterError, RuntimeError):
        return not kind.jobs()
    return False


def main(asked: list[str]) -> None:
    """Runs them, those of clusters last."""
    known = (*INSIDE, *OUTSIDE, *STORE, *NODES, *PODS)
    faults = list(known) if asked == ["--all"] else asked
    if unknown := set(faults) - set(known):
        sys.exit(f"error: unknown faults {', '.join(sorted(unknown))}: known are {', '.join(known)}")
    for fault in [each for each in faults if each not in (*NODES, *PODS)]:
        print(json.dumps(run(fault)), flush=True)
    for known, on_cluster in ((NODES, on_nodes), (PODS, on_pods)):
        if mine := [each for each in faults if each in known]:
            for found in on_cluster(mine):
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
