"""A sweep on kind, in a real Prometheus on this machine, which scrapes the head as the PodMonitor says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from raysweep.clusters.kubernetes import manifests
from raysweep.clusters.shared import s3_keys
from raysweep.storage import open_storage
from tests.k8s.kind_project import KindProject
from tests.prometheus import HELD_FLAGS, HELD_TASK, check_live, needed, prometheus
from tests.ray_project import ROOT, free_ports
from tests.waiting import until

pytestmark = needed


def scraped_port(folder: Path) -> str:
    """The name of the port of the component `monitoring`."""
    added = manifests.Additions(components=("monitoring",))
    manifests.write(folder, ROOT / "k8s" / "overlays" / "gpu", added, ROOT / "k8s" / "components")
    monitor = manifests.find(manifests.render(folder), "PodMonitor")
    assert monitor is not None
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    return str(endpoint["port"])


def port_of(pod: dict[str, Any], name: str) -> int:
    """The number of a pod's port, with which KubeRay has completed the manifests."""
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports", []))
    return next(port["containerPort"] for port in ports if port["name"] == name)


def test_figures_are_those_of_the_journal_while_it_runs(kind: KindProject, tmp_path: Path) -> None:
    (kind.folder / "tasks" / "held.py").write_text(HELD_TASK)
    name = f"watched-{os.getpid()}"
    os.environ.update(s3_keys.environment(kind.cluster.endpoint, Path(kind.cluster.credentials_path)))
    place = open_storage(kind.cluster.storage).child(name)
    (head,) = kind.pods("ray.io/node-type=head", "ray.io/cluster=raysweep")
    (port, *others) = [port_of(pod, scraped_port(tmp_path / "rendered")) for pod in (head, *kind.workers())]
    assert others
    assert set(others) == {port}
    (local,) = free_ports(1)
    forward = ["port-forward", f"pod/{head['metadata']['name']}", f"{local}:{port}"]
    config = tmp_path / "prometheus.yaml"
    targets = [{"targets": [f"127.0.0.1:{local}"]}]
    scraped = {"job_name": "raysweep", "scrape_interval": "1s", "static_configs": targets}
    config.write_text(yaml.safe_dump({"scrape_configs": [scraped]}))
    with subprocess.Popen([*kind.kube.command, *forward], stdout=subprocess.DEVNULL) as door:
        try:
            with kind.start("submit", *HELD_FLAGS, "--name", name) as job, prometheus(config, tmp_path) as running:
                until(lambda: running.values("up", "job") == {("raysweep",): 1}, "the head is not scraped")
                check_live(running, place, name)
                log, _ = job.communicate(timeout=240)
        finally:
            door.terminate()
    assert (job.returncode, "as it was told" in log) == (1, True), log  # one trial has failed
