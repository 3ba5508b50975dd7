"""What is asked of a Kubernetes target is checked before anything starts."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from raysweep.targets import Options, plan

ROOT = Path(__file__).parents[1]
KIND = ROOT / "k8s" / "overlays" / "kind"


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        problems = plan.check(ROOT, tmp_path, Options(workers=0, num_cpus=-1, dashboard_port=port, s3_port=80))
    assert [problem.split("`")[1].split()[0] for problem in problems] == [
        "--workers",
        "--num-cpus",
        "--dashboard-port",
        "--s3-port",
        "--overlay",
    ]
    assert "aws, gpu, kind, minikube, rayjob" in problems[-1]


def test_what_can_be_had_is_no_problem() -> None:
    assert plan.check(ROOT, KIND, Options(workers=1, dashboard_port=23459, s3_port=23460)) == []


def test_a_group_without_any_node_is_counted_as_such() -> None:
    group = {"maxReplicas": 0, "rayStartParams": {"num-cpus": "2", "num-gpus": "1"}}
    assert json.loads(plan.nodes({"spec": {"workerGroupSpecs": [group]}})) == [{"count": 0, "CPU": 2, "GPU": 1}]
