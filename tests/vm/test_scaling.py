"""The scaling that cluster.yaml asks for, run: its node types under Ray's fake provider, whose nodes are raylets here.

Ray's own `AutoscalingCluster` would end every Ray of this machine first, so it is not used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from raysweep.clusters import vm_config
from raysweep.clusters.shared import processes
from tests.s3 import S3Server, free_ports
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
IDLE_MINUTES = 0.1
CONFIG = vm_config.read(ROOT / "cluster.yaml")
WORKERS = {name: each for name, each in CONFIG["available_node_types"].items() if name != CONFIG["head_node_type"]}
MOST = sum(each["max_workers"] for each in WORKERS.values())
TASK = """
import time, raysweep
from ray import tune
SPACE, METRIC, MODE, MAX_ITERATIONS = {"x": tune.uniform(0, 1)}, "score", "max", 2

def train(config):
    for i in raysweep.iterations():
        time.sleep(5)
        raysweep.report({"score": config["x"] * i}, state=i)
"""
WATCH = """
import sys, time, ray
ray.init(logging_level="ERROR", log_to_driver=False)
with open(sys.argv[1], "a") as seen:
    while True:
        print(sum(n["Alive"] and n["Resources"].get("GPU", 0) > 0 for n in ray.nodes()), file=seen, flush=True)
        time.sleep(0.5)
"""


def settings(gcs: str) -> dict[str, Any]:
    """What both the file and the fake provider have: node types, limits, speed; the idle time is shortened."""
    types = {
        name: {key: each[key] for key in ("resources", "min_workers", "max_workers")} | {"node_config": {}}
        for name, each in WORKERS.items()
    }
    kept = {key: CONFIG[key] for key in ("max_workers", "upscaling_speed")}
    empty: dict[str, Any] = {name: {} for name in ("auth", "docker", "file_mounts")}
    empty |= {name: [] for name in ("initialization_commands", "setup_commands", "cluster_synced_files")}
    empty |= {f"{node}_{when}_commands": [] for node in ("head", "worker") for when in ("setup", "start_ray")}
    head = {"resources": CONFIG["available_node_types"]["head"]["resources"], "node_config": {}, "max_workers": 0}
    # As `external`: of its own name, `fake_multinode`, Ray wants a file of defaults that its wheel does not bring.
    fake = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    provider = {"type": "external", "module": fake, "launch_multiple": True, "head_node_id": FAKE_HEAD_NODE_ID}
    provider["gcs_address"] = gcs
    return (
        empty
        | kept
        | {
            "cluster_name": "fake",
            "provider": provider,
            "idle_timeout_minutes": IDLE_MINUTES,
            "head_node_type": "ray.head.default",  # the provider knows its head by this name
            "available_node_types": types | {"ray.head.default": head},
        }
    )


@pytest.fixture
def environment(tmp_path: Path, s3_server: S3Server) -> Iterator[dict[str, str]]:
    """A head with the autoscaler; everything that it starts ends with the test."""
    marker, port = uuid.uuid4().hex, free_ports(1)[0]
    temp = tempfile.mkdtemp(prefix="rs-", dir="/tmp")
    (tmp_path / "config.json").write_text(json.dumps(settings(f"{get_node_ip_address()}:{port}")))
    (tmp_path / "token").write_text(uuid.uuid4().hex)
    told = re.search(r"RAYSWEEP_NODES='(.*?)'", " ".join(CONFIG["head_start_ray_commands"]))
    assert told
    env = (
        os.environ
        | s3_server.env
        | {
            "RAYSWEEP_CLUSTER_ID": marker,
            "SPT_NOENV": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAYSWEEP_NODES": told[1],
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
    )
    flags = ["--num-cpus=0", f"--port={port}", f"--temp-dir={temp}", "--include-dashboard=false"]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head"]
    config = f"--autoscaling-config={tmp_path / 'config.json'}"
    try:
        subprocess.run([*ray, *flags, config], env=env, check=True, capture_output=True, timeout=PATIENCE_S)
        yield env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        processes.end(marker)
        subprocess.run(["rm", "-rf", temp], check=True)


def wait_for(file: Path, count: int, seconds: float, log: Path) -> float:
    """Seconds until the watcher has seen so many workers last; `log` is shown if it does not."""
    began = time.monotonic()
    while not (lines := file.read_text().split()) or int(lines[-1]) != count:
        assert time.monotonic() - began < seconds, f"not {count} workers: {lines[-5:]}\n{log.read_text()}"
        time.sleep(0.2)
    return time.monotonic() - began


@pytest.mark.timeout(600)
def test_a_sweep_grows_from_0_workers_to_the_most_and_back(
    environment: dict[str, str], s3_server: S3Server, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text(TASK)
    seen, log = tmp_path / "seen", tmp_path / "log"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    sweep = [sys.executable, ROOT / "jobs" / "random_search.py", "--task", "slow", "--name", "grow"]
    sweep += ["--samples", str(2 * MOST), "--gpus-per-trial", "1", "--storage", f"{s3_server.new_bucket()}/runs"]
    seen.touch()
    with contextlib.ExitStack() as ending:

        def start(*command: object) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                command, env=environment | {"PYTHONPATH": path}, cwd=tmp_path, stdout=text, stderr=text
            )
            ending.callback(process.wait)
            ending.callback(process.kill)
            return process

        text = ending.enter_context(log.open("w"))
        start(sys.executable, "-c", WATCH, seen)
        wait_for(seen, 0, 60, log)
        job = start(*sweep)
        up = wait_for(seen, MOST, 240, log)
        assert job.wait(timeout=240) == 0, log.read_text()
        down = wait_for(seen, 0, 180, log)
    print(f"0 -> {MOST} workers in {up:.1f} s from submission, back to 0 {down:.1f} s after the end")
    assert f"trials: {2 * MOST} finished" in log.read_text()
