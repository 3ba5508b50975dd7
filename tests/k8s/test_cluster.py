"""What `cluster-up TARGET=kind` made: everything runs, under Pod Security `restricted`, without a warning."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from raysweep.targets import answers, manifests, processes, raycluster
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
    label = "pod-security.kubernetes.io/enforce=restricted"
    for namespace in ("raysweep", "kuberay"):
        looked_at = kind.kubectl(
            "label", "namespace", namespace, "--overwrite", "--dry-run=server", f"{label}", "looked-at=now"
        )
        assert (looked_at.returncode, looked_at.stderr) == (0, "")
        assert (
            json.loads(kind.kubectl("get", "namespace", namespace, "--output=json").stdout)["metadata"]["labels"][
                label.split("=")[0]
            ]
            == "restricted"
        )


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


def test_no_secret_is_in_the_environment_or_the_log_of_rays_processes(kind: KindProject) -> None:
    secrets = [Path(kind.cluster.token_path).read_text().strip()]
    secrets += [
        line.split(" = ")[1].strip()
        for line in Path(kind.cluster.credentials_path).read_text().splitlines()
        if "secret" in line
    ]
    look = "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; cat /tmp/ray/session_latest/logs/* 2>/dev/null; true"
    for pod in kind.pods("raysweep/role=ray"):
        done = kind.kubectl("exec", pod["metadata"]["name"], "--container=ray", "--", "bash", "-c", look)
        assert "RAY_AUTH_MODE=token" in done.stdout
        printed = kind.kubectl("logs", pod["metadata"]["name"], "--all-containers").stdout
        assert not [secret for secret in secrets if secret in done.stdout + printed]


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
        process.kill()
    assert not answers(kind.cluster)
    assert raycluster.healthy(kind.cluster)
