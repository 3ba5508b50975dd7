"""What `cluster-up TARGET=kind` made: everything runs, under Pod Security `restricted`, without a warning."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.error
import urllib.request

import psutil
import pytest
import yaml

from raysweep.clusters.kubernetes import manifests, raycluster
from raysweep.clusters.shared import processes
from raysweep.clusters.targets import answers
from tests.k8s.kind_project import KindProject


def test_every_pod_runs(kind: KindProject) -> None:
    pods = json.loads(kind.kubectl("get", "pods", "--all-namespaces", "--output=json").stdout)["items"]
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}


def test_nothing_breaks_restricted(kind: KindProject) -> None:
    """The server's own verdict on what is applied, and on the pods that the operator made of it."""
    objects = manifests.render(kind.folder / ".raysweep" / "kubernetes")
    applied = kind.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(objects)
    )
    assert (applied.returncode, applied.stderr) == (0, "")
    for namespace in ("raysweep", "kuberay"):
        assert looked_at(kind, namespace) == (0, "")
        found = json.loads(kind.kubectl("get", "namespace", namespace, "--output=json").stdout)
        assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def looked_at(kind: KindProject, namespace: str) -> tuple[int, str]:
    """What the server has against a namespace's pods; it looks at them only if the policy changes."""
    policy = "pod-security.kubernetes.io/enforce"
    labels = [f"{policy}=restricted", f"{policy}-version=v1.34"]
    done = kind.kubectl("label", "namespace", namespace, "--overwrite", "--dry-run=server", *labels)
    return done.returncode, done.stderr


def test_the_server_tells_what_breaks_restricted(kind: KindProject) -> None:
    """Else its silence above would mean nothing."""
    where = "--namespace=lax"
    kind.kubectl("create", "namespace", "lax")
    try:
        kind.kubectl("run", "careless", "--image=raysweep-store:local", "--image-pull-policy=Never", where)
        _, said = looked_at(kind, "lax")
        assert "existing pods in namespace" in said
        assert "careless" in said
    finally:
        kind.kubectl("delete", "namespace", "lax", "--wait=false")


def test_a_privileged_pod_is_refused(kind: KindProject) -> None:
    done = kind.kubectl("run", "intruder", "--image=raysweep-store:local", "--privileged", "--restart=Never")
    assert done.returncode != 0
    assert "violates PodSecurity" in done.stderr


def test_the_operators_containers_are_as_closed_as_ours(kind: KindProject) -> None:
    for pod in kind.pods("raysweep/role"):
        containers = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
        assert len(containers) == {"head": 2, "worker": 2}.get(pod["metadata"]["labels"].get("ray.io/node-type"), 1)
        for container in containers:
            assert container["securityContext"]["readOnlyRootFilesystem"], container["name"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, container["name"]


def test_the_dashboard_answers_on_this_machine_to_the_token_only(kind: KindProject) -> None:
    assert raycluster.healthy(kind.cluster)
    for headers, code in (({}, 401), ({"Authorization": "Bearer wrong"}, 403)):
        request = urllib.request.Request(f"{kind.cluster.dashboard}/api/jobs/", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        refused.value.close()
        assert refused.value.code == code


def test_the_users_own_kubeconfig_is_not_touched(kind: KindProject) -> None:
    contexts = subprocess.run(
        ["kubectl", "config", "get-contexts", "--output=name"],
        capture_output=True,
        text=True,
        env=kind.env | {"KUBECONFIG": ""},
    )
    assert kind.kube.context not in contexts.stdout.split()


def test_a_forward_that_ends_is_begun_again(kind: KindProject) -> None:
    for process in processes.marked(kind.cluster.id):
        with contextlib.suppress(psutil.NoSuchProcess):  # a loop's kubectl may end with it
            process.kill()
    assert not answers(kind.cluster)
    assert raycluster.healthy(kind.cluster)
