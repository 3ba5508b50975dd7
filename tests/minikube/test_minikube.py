"""The target minikube from the first command to the last, and what it says if it cannot start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.k8s.kind_project import KindProject
from tests.minikube.conftest import apart, left_of, up
from tests.minikube.small_image import LEFT_OUT, SMALL

SAMPLES = 4


def run_sweep(minikube: KindProject, name: str) -> None:
    flags = ("--task", "quadratic", "--samples", str(SAMPLES), "--max-iterations", "3")
    done = minikube.run("submit", "asha", "--name", name, *flags)
    assert done.returncode == 0, done.stdout
    assert {trial.status for trial in minikube.state(name).trials.values()} <= {"finished", "stopped"}


def shown_trials(minikube: KindProject, name: str) -> str:
    shown = minikube.run("results", name)
    assert shown.returncode == 0, shown.stdout
    return shown.stdout


def test_images_that_are_not_here_are_named_before_a_cluster_is_made(tmp_path: Path) -> None:
    project = apart(tmp_path, RAYSWEEP_IMAGE="nowhere:1", RAYSWEEP_STORE_IMAGE="nowhere:2")
    done = up(project)
    assert done.returncode == 2, done.stdout
    assert "there is no image nowhere:1 and nowhere:2: build them with `raysweep image`" in done.stdout
    assert left_of(project, "raysweep-") == []


def test_minikubes_own_reason_is_in_the_error(tmp_path: Path) -> None:
    project = apart(tmp_path)
    done = up(project, MINIKUBE_DRIVER="abacus")
    assert done.returncode == 1, done.stdout
    assert "`minikube start` failed: " in done.stdout
    assert "The driver 'abacus' is not supported" in done.stdout
    assert not (project.folder / ".raysweep" / "cluster.json").exists()
    assert left_of(project, "raysweep-") == []


LOAD = """
import resource, sys
from raysweep.clusters.kubernetes.minikube import Minikube
Minikube().load(*sys.argv[1:3], sys.argv[3:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def test_an_image_is_loaded_without_being_held_in_memory(minikube: KindProject) -> None:
    """`minikube image load` holds more than twice the image."""
    inspect = ["docker", "image", "inspect", "--format={{.Size}}", SMALL]
    size = int(subprocess.run(inspect, capture_output=True, text=True, check=True).stdout) / 2**20
    kubeconfig = str(minikube.folder / ".raysweep" / "kubernetes" / "kubeconfig")
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, minikube.cluster.id, kubeconfig, SMALL],
        env=minikube.env | {"PYTHONPATH": str(minikube.folder)},
        capture_output=True,
        text=True,
    )
    assert loaded.returncode == 0, loaded.stderr
    largest = float(loaded.stdout)
    print(f"image of {size:.0f} MiB without {LEFT_OUT}, largest process {largest:.0f} MiB")
    assert largest < size / 4


def test_a_sweep_runs_and_has_results(minikube: KindProject) -> None:
    name = f"first-{os.getpid()}"
    run_sweep(minikube, name)
    assert len(minikube.state(name).trials) == SAMPLES
    assert "best" in shown_trials(minikube, name)


def test_a_node_that_stopped_is_started_again_with_its_sweeps_and_runs_more(minikube: KindProject) -> None:
    before = f"before-{os.getpid()}"
    run_sweep(minikube, before)
    shown, events = shown_trials(minikube, before), minikube.results(before)
    subprocess.run(["docker", "stop", minikube.cluster.id], check=True, capture_output=True)
    was = minikube.cluster.id
    done = up(minikube)
    assert done.returncode == 0, done.stdout
    del minikube.cluster  # its ports may be others
    assert minikube.cluster.id == was
    assert shown_trials(minikube, before) == shown
    assert minikube.results(before) == events > 0
    run_sweep(minikube, f"after-{os.getpid()}")
