"""The target `local`: a Ray head on this machine, behind a token, with every port on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from raysweep import env
from raysweep.clusters.shared import ports, processes
from raysweep.clusters.shared.ports import HOST
from raysweep.clusters.shared.until import until
from raysweep.clusters.targets import DASHBOARD_PORT, Cluster, Options, Target, answers
from raysweep.errors import BadInput, ClusterError

PORT = 6379
START_SECONDS = 120.0
LOG_LINES = 20
# What belongs to another cluster, or would win over the token file.
FOREIGN = (env.RAY_ADDRESS, env.RAY_API_SERVER_ADDRESS, env.RAY_AUTH_TOKEN)


class Local(Target):
    """A Ray head on this machine; it holds nothing that is to outlive it."""

    options = frozenset({"port", "dashboard_port", "num_cpus"})
    lasting = False

    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        """Starts `ray start --head` in the background and waits for its dashboard."""
        _check_ports(options)
        cluster = _plan(project, token, options)
        record(cluster)
        _ray_start(cluster, options, project)
        _wait_for_dashboard(cluster)
        cluster = replace(cluster, pids=tuple(processes.daemons(cluster.id)))
        record(cluster)
        return cluster

    def stop(self, cluster: Cluster, volumes: bool = False) -> str:
        """Ends the head and everything that descends from it."""
        count, left = processes.end(cluster.id)
        if left:
            raise ClusterError(f"processes {left} of the local cluster did not end: look at them with `ps`")
        shutil.rmtree(cluster.temp_dir, ignore_errors=True)
        return f"{count} processes"

    def healthy(self, cluster: Cluster) -> bool:
        """Whether the head's own processes live and its dashboard takes the token."""
        alive = bool(cluster.pids) and all(processes.is_marked(pid, cluster.id) for pid in cluster.pids)
        return alive and answers(cluster)

    def scale(self, cluster: Cluster, workers: int) -> None:
        """Not here."""
        raise BadInput("the target local has no workers, it is one node: `make cluster-up TARGET=docker` has some")

    def logs(self, cluster: Cluster, follow: bool) -> int:
        """Prints the end of what Ray's own processes wrote."""
        found = sorted((_ray_folder(cluster) / "session_latest" / "logs").glob("*.*"))
        return subprocess.call(["tail", "-n", str(LOG_LINES), *(["-f"] if follow else []), *map(str, found)])


def environment(cluster: Cluster) -> dict[str, str]:
    """What the head adds to its environment, and so to that of every job."""
    return {
        env.RAY_AUTH_MODE: "token",
        env.RAY_AUTH_TOKEN_PATH: cluster.token_path,
        # "No clusters", which is Ray's way on Windows and macOS, is what binds every port to 127.0.0.1:
        # --node-ip-address alone is replaced by the machine's address, and half of the ports by *.
        env.RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER: "0",
        env.RAY_START_HOOK: f"{__name__}.without_ray_client",
        env.RAY_USAGE_STATS_ENABLED: "0",
        # `ray job stop` sends SIGTERM by default; Tune saves on SIGINT, and may need time for it.
        env.RAY_JOB_STOP_SIGNAL: "SIGINT",
        env.RAY_JOB_STOP_WAIT_TIME_S: "120",
        env.RAYSWEEP_STORAGE: cluster.storage,
        env.RAYSWEEP_CLUSTER_ID: cluster.id,
        # Ray's processes change their title; without this they overwrite the marker with it.
        env.SPT_NOENV: "1",
        # What processes leave behind when they are ended goes with the cluster.
        env.TMPDIR: os.environ.get(env.TMPDIR, cluster.temp_dir),
        # A job's entrypoint is `python jobs/…`: the Python that has Ray.
        env.PATH: os.pathsep.join([str(Path(sys.executable).parent), os.environ.get(env.PATH, os.defpath)]),
    }


def without_ray_client(ray_params: Any, head: bool) -> None:
    """A RAY_START_HOOK: no Ray client server, which no option of `ray start` turns off."""
    os.environ.pop(env.RAY_START_HOOK, None)
    ray_params.ray_client_server_port = None


def _plan(project: Path, token: Path, options: Options) -> Cluster:
    storage = os.environ.get(env.RAYSWEEP_STORAGE) or str(project / "runs")
    return Cluster(
        target="local",
        id=uuid.uuid4().hex,
        dashboard=f"http://{HOST}:{_dashboard_port(options)}",
        address=f"{HOST}:{_port(options)}",
        storage=storage if "://" in storage else str(Path(storage).absolute()),
        token_path=str(token),
        # Not in the project: the path of a socket in it may have 107 bytes at most.
        temp_dir=tempfile.mkdtemp(prefix="raysweep-", dir="/tmp"),
    )


def _check_ports(options: Options) -> None:
    if wrong := ports.problems({"--port": _port(options), "--dashboard-port": _dashboard_port(options)}):
        raise BadInput(*wrong)


def _port(options: Options) -> int:
    return options.port or PORT


def _dashboard_port(options: Options) -> int:
    return options.dashboard_port or DASHBOARD_PORT


def _command(cluster: Cluster, options: Options) -> list[str]:
    flags = {
        "port": _port(options),
        "dashboard-host": HOST,
        "dashboard-port": _dashboard_port(options),
        "dashboard-agent-listen-port": 0,  # 0: any free one, so that two clusters do not meet
        "min-worker-port": 0,
        "max-worker-port": 0,
        "temp-dir": _ray_folder(cluster),
        "include-dashboard": True,  # fail, rather than warn, if it cannot be started
    }
    if options.num_cpus is not None:
        flags["num-cpus"] = options.num_cpus
    # Not the `ray` on PATH: the one of this Python.
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head"]
    return ray + [f"--{flag}={value}" for flag, value in flags.items()]


def _ray_folder(cluster: Cluster) -> Path:
    """Ray opens it, with its logs and sockets, to everyone: the one around it is closed."""
    return Path(cluster.temp_dir) / "ray"


def _ray_start(cluster: Cluster, options: Options, project: Path) -> None:
    inherited = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    log = Path(cluster.temp_dir) / "ray-start.log"
    with log.open("w") as output:
        try:
            code = subprocess.run(
                _command(cluster, options),
                env=inherited | environment(cluster),
                cwd=project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in this terminal is not for the cluster
                timeout=START_SECONDS,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    if code != 0:
        happened = f"did not end within {START_SECONDS:g} s" if code is None else f"failed with exit code {code}"
        raise ClusterError(f"`ray start` {happened}:\n{_tail(log)}")


def _wait_for_dashboard(cluster: Cluster) -> None:
    if not until(lambda: answers(cluster), START_SECONDS):
        log = _ray_folder(cluster) / "session_latest" / "logs" / "dashboard.log"
        raise ClusterError(f"{cluster.dashboard} does not answer within {START_SECONDS:g} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    except OSError as error:
        return f"(no log: {error})"
