"""The target `k8s`, with the overlay of minikube, on the kind cluster of the other tests; so it comes last.

What minikube would be given is applied for real, and everything of the kit's goes again but the cluster itself.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from raysweep.clusters.kubernetes import manifests
from raysweep.clusters.kubernetes.api import Kube
from tests.k8s.conftest import checkout
from tests.k8s.kind_project import KindProject, eventually
from tests.s3 import free_ports


@pytest.fixture(scope="module")
def user(kind: KindProject, tmp_path_factory: pytest.TempPathFactory) -> KindProject:
    """Another checkout, of somebody whose current context is the kind cluster."""
    folder = tmp_path_factory.mktemp("k8s")
    config = folder / "kubeconfig"
    user = checkout(folder, KUBECONFIG=str(config))
    shutil.copy(kind.kube.kubeconfig, config)
    user.kube = Kube(str(config), None)  # this process has another KUBECONFIG
    return user


def up(user: KindProject) -> tuple[int, str]:
    dashboard, s3 = free_ports(2)
    ports = ["--dashboard-port", str(dashboard), "--s3-port", str(s3)]
    done = user.run("cluster", "up", "--target", "k8s", "--overlay", "minikube", *ports, seconds=900)
    return done.returncode, done.stdout


def test_another_projects_cluster_is_left_as_it_is(kind: KindProject, user: KindProject) -> None:
    before = [pod["metadata"]["uid"] for pod in kind.pods("raysweep/role")]
    code, said = up(user)
    assert code == 2, said
    assert "is another project's (raysweep/project=" in said
    assert not (user.folder / ".raysweep" / "cluster.json").exists()
    assert [pod["metadata"]["uid"] for pod in kind.pods("raysweep/role")] == before


def test_a_cluster_that_is_there_gets_a_ray_cluster_and_loses_nothing_but_that(
    kind: KindProject, user: KindProject
) -> None:
    kind.kubectl("delete", "namespace", "raysweep", "--wait=false")
    kind.kubectl("delete", "pods", "--all", "--grace-period=0", "--force")  # the head would take its minute
    eventually("its end", lambda: kind.kubectl("get", "namespace", "raysweep").returncode != 0, 170)
    code, said = up(user)
    print(said)
    assert code == 0, said
    assert said.splitlines()[0].startswith(f"context {kind.kube.context} (https://")  # before anything is changed
    name = f"minikube-{os.getpid()}"
    done = user.run("submit", "asha", "--task", "digits", "--name", name, "--samples", "4", "--max-iterations", "3")
    assert done.returncode == 0, done.stdout
    assert user.results(name) > 4

    assert user.run("cluster", "scale", "2").returncode == 0
    group = user.kube.get("RayCluster", "raysweep")["spec"]["workerGroupSpecs"][0]
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 2)
    rendered = manifests.render(user.folder / ".raysweep" / "kubernetes")
    assert manifests.find(rendered, "RayCluster")["spec"]["workerGroupSpecs"][0]["maxReplicas"] == 2
    (head,) = user.pods("ray.io/node-type=head")
    told = ("exec", head["metadata"]["name"], "--container=ray", "--", "cat", "/etc/raysweep/RAYSWEEP_NODES")
    eventually("drivers are told", lambda: '"count": 2' in user.kubectl(*told).stdout, 30)

    assert user.run("cluster", "down").returncode == 0
    assert not user.get("pods")
    assert [claim["metadata"]["name"] for claim in user.get("persistentvolumeclaims")] == ["data-raysweep-store-0"]
    assert not [each for each in user.get("secrets") if each["metadata"]["name"].startswith("raysweep")]
    operator = user.kubectl("get", "pods", "--namespace=kuberay", "--output=jsonpath={.items[*].status.phase}")
    assert operator.stdout == "Running"
    assert user.run("cluster", "down", "--volumes").returncode == 0
    assert user.kubectl("get", "namespace", "raysweep").returncode != 0


def test_a_context_that_is_gone_does_not_keep_the_record(kind: KindProject, user: KindProject) -> None:
    code, said = up(user)
    assert code == 0, said
    config = Path(user.env["KUBECONFIG"])
    before = config.read_text()
    config.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "", "contexts": []}))
    try:
        done = user.run("cluster", "down")
        assert done.returncode == 1, done.stdout
        assert "raysweep cluster down --forget" in done.stdout
        assert user.run("cluster", "down", "--forget").returncode == 0
        assert not (user.folder / ".raysweep" / "cluster.json").exists()
    finally:
        config.write_text(before)
    assert kind.kubectl("get", "raycluster", "raysweep").returncode == 0  # what cannot be reached stays
