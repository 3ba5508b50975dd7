"""The cluster of containers: what it is made of, who gets in, and that every strategy runs on it by plain Ray."""

from __future__ import annotations

import io
import json
import re
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from raysweep.clusters import docker as target
from raysweep.clusters.ping import Answer, ask
from raysweep.driver import capacity
from raysweep.history import checkpoint
from raysweep.history.sweep_state import SweepState
from tests.docker.conftest import IMAGE, DockerProject, docker, events_of, log_of, state_of, wait_for_results
from tests.ray_project import free_ports
from tests.strategy_kinds import ONE_OF_EACH
from tests.waiting import until

FASHION = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
RAY_PORTS = (6379, 8265, 10001, 52365)
S3_PORT = 8333
TRIAL = "(?!DashboardAgent|RuntimeEnvAgent|IDLE)"  # of Ray's processes on a worker
TOGETHER = 2  # jobs at the same time: one for each worker
CONNECT = """
import socket, sys
for port in map(int, sys.argv[2:]):
    try:
        socket.create_connection((sys.argv[1], port), timeout=2).close()
        print("open", port)
    except OSError:
        pass
"""
# In a container: the files that hold one of the words on standard input, but for this process's own.
LOOK = """
import os, pathlib, sys
words = [word.encode() for word in sys.stdin.read().split()]
processes = [place for place in pathlib.Path("/proc").glob("[0-9]*") if place.name != str(os.getpid())]
places = [*pathlib.Path("/tmp/ray").rglob("*"), *(each / name for each in processes for name in ("environ", "cmdline"))]
for place in places:
    try:
        data = place.read_bytes()
        title = (place.parent / "cmdline").read_bytes()[:40] if place.parent in processes else b""
    except OSError:
        continue
    if any(word in data for word in words):
        print(place, title)
"""
# In the head: signals its dashboard.
DASHBOARD = """
import os, pathlib, signal, sys
for place in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if place.parent.name != str(os.getpid()) and b"ray/dashboard/dashboard.py" in place.read_bytes():
        os.kill(int(place.parent.name), getattr(signal, sys.argv[1]))
        print(place)
"""
RAY_CLIENT = "import ray, sys; ray.init('ray://' + sys.argv[1], log_to_driver=False)"


def address(container: dict) -> str:
    (network,) = container["NetworkSettings"]["Networks"].values()
    return network["IPAddress"]


@pytest.fixture
def other_network() -> Iterator[str]:
    name = f"raysweep-test-{free_ports(1)[0]}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


def status_with_nodes(project: DockerProject, nodes: int) -> str:
    """What `ray status` says once it counts so many: it is written every 5 s, not when a node joins."""

    def status() -> str:
        text = project.execute("head", "ray", "status")
        return text if len(re.findall(r"^ 1 node_", text, re.MULTILINE)) == nodes else ""

    return until(status, f"`ray status` does not count {nodes} nodes")


def test_a_head_without_trials_two_workers_a_store_and_a_keeper(docker_cluster: DockerProject) -> None:
    services = [c["Config"]["Labels"]["com.docker.compose.service"] for c in docker_cluster.containers()]
    assert sorted(services) == ["head", "resubmitter", "store", "worker", "worker"]
    assert all(c["State"]["Health"]["Status"] == "healthy" for c in docker_cluster.containers())
    status = status_with_nodes(docker_cluster, 3)
    cpus = sum(c["HostConfig"]["NanoCpus"] for c in docker_cluster.containers("worker")) / 1e9
    assert f"/{cpus} CPU" in status


def test_every_container_is_closed_and_limited(docker_cluster: DockerProject) -> None:
    for container in docker_cluster.containers():
        host = container["HostConfig"]
        assert container["Config"]["User"].split(":")[0] not in ("", "0", "root")
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Memory"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        published = {port["HostIp"] for ports in (host["PortBindings"] or {}).values() for port in ports}
        assert published <= {"127.0.0.1"}
    for container in docker_cluster.containers("head") + docker_cluster.containers("worker"):
        assert container["HostConfig"]["ShmSize"] > 2**30
        assert container["HostConfig"]["NanoCpus"] > 0


def test_up_again_is_harmless_and_another_target_is_refused(docker_cluster: DockerProject) -> None:
    before = [container["Id"] for container in docker_cluster.containers()]
    again = docker_cluster.up()
    assert (again.returncode, "already up" in again.stdout) == (0, True)
    more = docker_cluster.up("--workers", "3")
    assert (more.returncode, "--workers" in more.stdout, "`raysweep cluster scale N`" in more.stdout) == (0, True, True)
    assert [container["Id"] for container in docker_cluster.containers()] == before
    other = docker_cluster.run("cluster", "up", "--target", "local")
    assert (other.returncode, "the docker cluster is up" in other.stdout) == (2, True)


def test_another_container_on_another_network_reaches_nothing(
    docker_cluster: DockerProject, other_network: str
) -> None:
    for service, ports in (("head", RAY_PORTS), ("worker", RAY_PORTS), ("store", (S3_PORT,))):
        (container, *_) = docker_cluster.containers(service)
        attack = ("python", "-c", CONNECT, address(container), *map(str, ports))
        assert docker("run", "--rm", "--network", other_network, IMAGE, *attack) == ""
    # The attack is a real one: on the cluster's own network it finds the doors.
    inside = docker_cluster.execute("worker", "python", "-c", CONNECT, "head", *map(str, RAY_PORTS))
    assert {"open 6379", "open 8265"} <= set(inside.splitlines())


@pytest.mark.parametrize(("token", "answer"), [(None, Answer.MISSING), ("wrong", Answer.WRONG)])
def test_the_host_is_refused_without_the_token(
    docker_cluster: DockerProject, token: str | None, answer: Answer
) -> None:
    direct = f"http://{address(docker_cluster.containers('head')[0])}:8265"
    for dashboard in (docker_cluster.cluster.dashboard, direct):
        assert ask(dashboard, token) is answer
        assert ask(dashboard, docker_cluster.token) is Answer.OK
        request = urllib.request.Request(f"{dashboard}/api/jobs/", json.dumps({"entrypoint": "id"}).encode())
        request.add_header("Authorization", f"Bearer {token}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code in (401, 403)
        refused.value.close()


@pytest.mark.parametrize(
    ("command", "port", "refusal"),
    [
        (("-m", "ray.scripts.scripts", "status", "--address"), 6379, "InvalidAuthToken"),
        (("-c", RAY_CLIENT), 10001, "ray client connection timeout"),  # it says no more
    ],
)
def test_the_host_gets_past_the_door_of_gcs_and_ray_client_with_the_token_only(
    docker_cluster: DockerProject, command: tuple[str, ...], port: int, refusal: str
) -> None:
    where = f"{address(docker_cluster.containers('head')[0])}:{port}"
    right = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": docker_cluster.token}
    wrong = right | {"RAY_AUTH_TOKEN": "wrong"}
    none = {"RAY_AUTH_MODE": "disabled"}  # in the mode "token" a client without one does not even ask

    def output(env: dict[str, str]) -> str:
        return docker_cluster.python(*command, where, seconds=120, **env).stdout

    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(output, (right, wrong, none)))
    assert [refusal in each for each in seen] == [False, True, True], seen


@pytest.mark.parametrize("service", ["head", "worker"])
def test_the_agent_of_a_node_starts_jobs_with_the_token_only(docker_cluster: DockerProject, service: str) -> None:
    agent = f"http://{address(docker_cluster.containers(service)[0])}:52365/api/job_agent/jobs/"
    codes = []
    for token in (None, "wrong", docker_cluster.token):
        request = urllib.request.Request(agent, json.dumps({"entrypoint": 1}).encode())  # that cannot run
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        codes.append(refused.value.code)
        refused.value.close()
    assert codes[:2] == [401, 403]
    assert codes[2] in (400, 500), "with the token it got as far as being read"


def test_up_over_a_cluster_that_is_silent_for_a_moment_ends_nothing(docker_cluster: DockerProject) -> None:
    before = [(each["Id"], each["State"]["StartedAt"]) for each in docker_cluster.containers()]
    assert docker_cluster.execute("head", "python", "-c", DASHBOARD, "SIGSTOP")
    try:
        status = docker_cluster.run("cluster", "status")
        assert (status.returncode, "worker      2 of 2 healthy" in status.stdout) == (1, True), status.stdout
        with ThreadPoolExecutor() as pool:
            again = pool.submit(docker_cluster.up)
            time.sleep(8)  # it asks for 4 s, then tells compose
            assert docker_cluster.execute("head", "python", "-c", DASHBOARD, "SIGCONT")
            assert again.result().returncode == 0, again.result().stdout
    finally:
        docker_cluster.execute("head", "python", "-c", DASHBOARD, "SIGCONT")
    assert [(each["Id"], each["State"]["StartedAt"]) for each in docker_cluster.containers()] == before


def test_the_store_refuses_without_keys(docker_cluster: DockerProject) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{docker_cluster.cluster.endpoint}/raysweep?list-type=2", timeout=10)
    assert refused.value.code == 403
    refused.value.close()


@pytest.mark.timeout(900)
def test_a_strategy_of_each_kind_runs_by_plain_ray(docker_cluster: DockerProject) -> None:
    def run(strategy: str) -> tuple[str, int, str]:
        flags = ("--samples", "4", "--max-iterations", "3", "--name", f"plain-{strategy}")
        job = docker_cluster.submit(strategy, *flags, task="quadratic")
        log = log_of(job, seconds=400)
        return strategy, job.returncode, log

    with ThreadPoolExecutor(TOGETHER) as pool:
        for strategy, code, log in pool.map(run, ONE_OF_EACH):
            assert code == 0, f"{strategy}:\n{log}"
            trials = state_of(docker_cluster.sweep(f"plain-{strategy}")).trials.values()
            assert len(trials) >= 4, strategy
            assert all(trial.status in ("finished", "stopped") for trial in trials), strategy


@pytest.mark.timeout(600)
@pytest.mark.skipif(not FASHION.exists(), reason="Debian's dataset-fashion-mnist is not installed")
def test_real_data_reach_trials_on_both_workers(docker_cluster: DockerProject) -> None:
    uploaded = docker_cluster.run("upload", str(FASHION))
    assert uploaded.returncode == 0, uploaded.stdout
    data = re.search(r"--data (s3://\S+)`", uploaded.stdout)
    assert data, uploaded.stdout
    done = docker_cluster.run(
        "submit", "tpe_asha", "--task", "mnist", "--data", data.group(1), "--name", "fashion", "--samples", "4",
        "--max-iterations", "2", seconds=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    place = docker_cluster.sweep("fashion")
    table = pd.read_csv(io.BytesIO(place.get("trials.csv")))
    workers = {container["Config"]["Hostname"] for container in docker_cluster.containers("worker")}
    assert set(table["node"]) == workers
    assert table["val_accuracy"].max() > 0.7
    for trial in state_of(place).trials.values():
        assert trial.checkpoint is not None
        assert set(place.list(trial.checkpoint.key)) == {
            f"{trial.checkpoint.key}/{name}" for name in (checkpoint.STATE, checkpoint.MARKER)
        }
    shown = docker_cluster.run("results", "fashion")
    assert (shown.returncode, "best val_accuracy" in shown.stdout) == (0, True), shown.stdout


@pytest.mark.parametrize("folder", ["/tmp/sweeps", "sweeps"])
def test_a_folder_of_one_container_is_refused_with_the_fix(docker_cluster: DockerProject, folder: str) -> None:
    job = docker_cluster.submit("asha", "--storage", folder, task="quadratic")
    log = log_of(job)
    assert job.returncode != 0
    assert re.search(r"`--storage \S*sweeps`: .* use s3://bucket/prefix, or a folder that all nodes mount", log), log


WAITING_TASK = """
import time

import raysweep
from tasks.quadratic import METRIC, MODE, SPACE

MAX_ITERATIONS = 4


def train(config):
    for iteration in raysweep.iterations():
        while {waits} and iteration == 3:
            time.sleep(0.1)
        raysweep.report({{"loss": (config["x"] - 1) ** 2 + 1 / iteration}}, state=iteration)
"""


@pytest.mark.timeout(600)
def test_the_command_line_submits_shows_stops_and_resumes(docker_cluster: DockerProject) -> None:
    task = docker_cluster.folder / "tasks" / "waiting.py"
    task.write_text(WAITING_TASK.format(waits=True))
    flags = ("submit", "random_search", "--name", "by-hand", "--task", "waiting", "--samples", "6")
    sent = docker_cluster.run(*flags, "--no-follow")
    assert (sent.returncode, sent.stdout.startswith("submitted random_search-by-hand-")) == (0, True), sent.stdout
    place = docker_cluster.sweep("by-hand")
    wait_for_results(place, 3)
    assert "RUNNING" in docker_cluster.run("status", "by-hand").stdout
    assert "trial 00000" in docker_cluster.run("logs", "by-hand").stdout
    stopped = docker_cluster.run("stop", "by-hand")
    assert (stopped.returncode, "STOPPED" in stopped.stdout) == (0, True), stopped.stdout
    before = events_of(place)
    assert not all(trial.ended for trial in SweepState(before).trials.values())
    task.write_text(WAITING_TASK.format(waits=False))
    again = docker_cluster.run(*flags, "--resume", "must", seconds=300)
    assert again.returncode == 0, again.stdout
    assert events_of(place)[: len(before)] == before
    trials = state_of(place).trials.values()
    assert len(trials) == 6
    assert all(trial.status in ("finished", "stopped") for trial in trials)


def test_more_workers_and_fewer(docker_cluster: DockerProject) -> None:
    before = {container["Id"] for container in docker_cluster.containers()}
    for workers in (3, 2):
        docker_cluster.make("scale", f"WORKERS={workers}")
        assert len(docker_cluster.containers("worker")) == workers
        assert f"worker      {workers} of {workers} healthy" in docker_cluster.make("cluster-status")
        promised = json.loads(docker_cluster.execute("head", "cat", str(capacity.FILE)))
        assert promised == [{"count": workers, "CPU": 1}]
        assert len(before & {container["Id"] for container in docker_cluster.containers()}) == len(before)
    assert docker_cluster.run("cluster", "scale", "0").returncode == 2
    logs = docker_cluster.make("cluster-logs")
    assert {"head", "worker", "store"} <= {re.split(r"-\d", line)[0] for line in logs.splitlines()}


def test_no_secret_shows(docker_cluster: DockerProject) -> None:
    """During a sweep, after others: logs, environments, the settings and what compose makes of them."""
    given = secrets.token_hex(16)
    flags = ("--task", "slow", "--samples", "16", "--name", "looked-at", "--env", "OF_THE_JOB")
    job = subprocess.Popen(
        docker_cluster.command("submit", "random_search", *flags),
        cwd=docker_cluster.folder, env=docker_cluster.env | {"OF_THE_JOB": given},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_for_results(docker_cluster.sweep("looked-at"), 4)
        hidden = look_for_secrets(docker_cluster, given)
        assert job.poll() is None, "nothing ran while it was looked"
    finally:
        log = log_of(job)
    assert (job.returncode, [secret for secret in hidden if secret in log]) == (0, []), log


def look_for_secrets(docker_cluster: DockerProject, *further: str) -> list[str]:
    folder = Path(docker_cluster.cluster.settings).parent
    keys = re.findall(r"= (\S+)", (folder / "aws-credentials").read_text())
    hidden = [docker_cluster.token, *keys, *further]
    command = [*target._command(docker_cluster.cluster), "config"]
    seen = [subprocess.run(command, capture_output=True, text=True, check=True).stdout]
    seen += [docker("inspect", container["Id"]) for container in docker_cluster.containers()]
    seen += [docker("logs", container["Id"]) for container in docker_cluster.containers()]
    seen += [path.read_text() for path in (folder / "compose.env", folder.parent / "cluster.json")]
    assert not [secret for secret in hidden for text in seen if secret in text]
    # In the containers: no log of Ray's, no environment and no command line of any process has one.
    for container in docker_cluster.containers("head") + docker_cluster.containers("worker"):
        assert look(container, *hidden) == ""
    # The look finds what is there: trials, in their environment, and the sweep's name, in logs and on command lines.
    (head, worker, *_) = docker_cluster.containers("head") + docker_cluster.containers("worker")
    until(lambda: re.search(rf"/environ b'ray::{TRIAL}", look(worker, "/run/secrets/ray_token")), "no trial is seen")
    shown = look(head, "looked-at")
    assert re.search(r"^/tmp/ray/\S+\.log ", shown, re.MULTILINE), shown
    assert re.search(r"^/proc/\d+/cmdline b'python", shown, re.MULTILINE), shown
    return hidden


def look(container: dict, *words: str) -> str:
    found = subprocess.run(
        ["docker", "exec", "--interactive", container["Id"], "python", "-c", LOOK],
        input="\n".join(words), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return found.stdout


def test_bad_options_are_named_at_once(docker_project: DockerProject, tmp_path: Path) -> None:
    port = docker_project.ports[0]
    for arguments, problem in [
        (("--port", "6379"), "error: `--port`: the target docker takes"),
        (("--workers", "0", "--dashboard-port", port), "error: `--workers 0`: must be at least 1"),
        (("--num-cpus", "1000"), "error: `--num-cpus 1000`: the Docker engine has"),
        (("--s3-port", "80"), "error: `--s3-port` 80 is not a port"),
    ]:
        command = [sys.executable, "-m", "raysweep", "cluster", "up", "--target", "docker", *arguments]
        refused = subprocess.run(
            command, cwd=tmp_path, env=docker_project.env | {"PYTHONPATH": str(docker_project.folder)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert refused.returncode == 2
        assert problem in refused.stderr
        assert not (tmp_path / ".raysweep" / "cluster.json").exists()
