"""A project whose Kubernetes cluster is up: its commands, its kubectl, its sweeps."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysweep.clusters import lifecycle
from raysweep.clusters.kubernetes.api import Kube, open_cluster
from raysweep.clusters.shared import s3_keys
from raysweep.clusters.targets import Cluster
from raysweep.history import journal
from raysweep.history.sweep_state import SweepState
from raysweep.storage import open_storage
from raysweep.submit import ray_jobs
from tests.ray_project import ROOT, ray_env

NAMESPACE = "raysweep"


def eventually(what: str, true: Callable[[], bool], seconds: float = 120) -> float:
    """Waits until it is true; the seconds that took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)
    return time.monotonic() - began


@dataclass
class KindProject:
    folder: Path
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def run(self, *arguments: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        """`raysweep …`; both outputs as one text."""
        with self.start(*arguments) as process:
            out, _ = process.communicate(timeout=seconds)
        return subprocess.CompletedProcess(arguments, process.returncode, out)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        env = self.env | {"PYTHONPATH": str(self.folder)}
        command = [sys.executable, "-m", "raysweep", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @property
    def ray(self) -> list[str]:
        """Ray's own command line."""
        return [sys.executable, "-m", "ray.scripts.scripts"]

    @property
    def ray_env(self) -> dict[str, str]:
        """The variables that `cluster up` prints."""
        return ray_env(self.cluster)

    def ray_job_submit(
        self, *arguments: str, wait: bool = True, job: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The plain command."""
        flags = [*([] if wait else ["--no-wait"]), *([f"--submission-id={job}"] if job else [])]
        return subprocess.run(
            [*self.ray, "job", "submit", "--working-dir", ".", *flags, "--", "python", *arguments],
            cwd=self.folder,
            env=self.env | self.ray_env,
            capture_output=True,
            text=True,
            timeout=900,
        )

    def jobs(self) -> dict[str, ray_jobs.Job]:
        """What `raysweep status` lists, by submission id."""
        return {job.id: job for job in ray_jobs.jobs(self.folder)}

    @functools.cached_property
    def cluster(self) -> Cluster:
        found = lifecycle.read(self.folder)
        assert found
        return found

    @functools.cached_property
    def kube(self) -> Kube:
        return open_cluster(self.cluster.settings)

    def kubectl(
        self, *arguments: str, stdin: str | None = None, seconds: float = 180
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.kube.command, *arguments], input=stdin, capture_output=True, text=True, timeout=seconds
        )

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        done = self.kubectl("get", *arguments, "--output=json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["items"]

    def pods(self, *labels: str) -> list[dict[str, Any]]:
        """Pods that are not on their way out."""
        found = self.get("pods", f"--selector={','.join(labels)}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def workers(self, cluster_name: str = "raysweep") -> list[dict[str, Any]]:
        return self.pods("ray.io/node-type=worker", f"ray.io/cluster={cluster_name}")

    def ready_workers(self, cluster_name: str = "raysweep") -> int:
        return sum(
            any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
            for pod in self.workers(cluster_name)
        )

    def state(self, name: str) -> SweepState:
        """What the sweep's journal says, read from the store as this machine sees it."""
        os.environ.update(s3_keys.environment(self.cluster.endpoint, Path(self.cluster.credentials_path)))
        return SweepState(journal.read(open_storage(self.cluster.storage).child(name)))

    def results(self, name: str) -> int:
        """Results in the journal so far."""
        return sum(len(trial.results) for trial in self.state(name).trials.values())


def slow_task(folder: Path) -> None:
    """A task that waits on every iteration, so that something can happen meanwhile."""
    (folder / "tasks" / "slow.py").write_text((ROOT / "tests" / "k8s" / "slow.py").read_text())
