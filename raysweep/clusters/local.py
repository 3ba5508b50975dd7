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
from raysweep.clusters.shared import commands, ports, processes
from raysweep.clusters.shared.ports import HOST
from raysweep.clusters.shared.until import until
from raysweep.clusters.targets import DASHBOARD_PORT, Cluster, Options, Target, answers
from raysweep.errors import BadInput, ClusterError

PORT = 6379
START_SECONDS = 120.0
LOG_LINES = 20
# They belong to another cluster, or would take precedence over the token file.
FOREIGN = (env.RAY_ADDRESS, env.RAY_API_SERVER_ADDRESS, env.RAY_AUTH_TOKEN)


class Local(Target):
    """A Ray head on this machine; it holds no data that would have to be kept."""

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
        """Ends the head and all its descendants."""
        count, left = processes.end(cluster.id)
        if left:
            raise ClusterError(f"processes {left} of the local cluster did not end: look at them with `ps`")
        shutil.rmtree(cluster.temp_dir, ignore_errors=True)
        return f"{count} processes"

    def healthy(self, cluster: Cluster) -> bool:
        """Whether the head's own processes are running and its dashboard accepts the token."""
        alive = bool(cluster.pids) and all(processes.is_marked(pid, cluster.id) for pid in cluster.pids)
        return alive and answers(cluster)

    def scale(self, cluster: Cluster, workers: int) -> None:
        """Not supported."""
        raise BadInput(
            "the target local has no workers, it is one node: `raysweep cluster up --target docker` has some"
        )

    def logs(self, cluster: Cluster, follow: bool) -> int:
        """Prints the ends of the logs of Ray's own processes."""
        files = sorted((_ray_folder(cluster) / "session_latest" / "logs").glob("*.*"))
        return subprocess.call(["tail", "-n", str(LOG_LINES), *(["-f"] if follow else []), *map(str, files)])


def environment(cluster: Cluster) -> dict[str, str]:
    """Variables for the head's environment, and so for that of every job."""
    return {
        env.RAY_AUTH_MODE: "token",
        env.RAY_AUTH_TOKEN_PATH: cluster.token_path,
        # Disabling clusters, as Ray does on Windows and macOS, binds every port to 127.0.0.1. With --node-ip-address
        # alone, Ray uses the machine's address instead, and * for half of the ports.
        env.RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER: "0",
        env.RAY_START_HOOK: f"{__name__}.without_ray_client",
        env.RAY_USAGE_STATS_ENABLED: "0",
        # `ray job stop` sends SIGTERM by default; Tune saves on SIGINT, which may take some time.
        env.RAY_JOB_STOP_SIGNAL: "SIGINT",
        env.RAY_JOB_STOP_WAIT_TIME_S: "120",
        # Without them, what a worker prints is not bounded at all.
        env.RAY_ROTATION_MAX_BYTES: "16777216",
        env.RAY_ROTATION_BACKUP_COUNT: "1",
        env.RAYSWEEP_STORAGE: cluster.storage,
        env.RAYSWEEP_CLUSTER_ID: cluster.id,
        # Otherwise Ray's processes overwrite their environment, with the marker, when they change their title.
        env.SPT_NOENV: "1",
        # Temporary files that killed processes leave behind are removed with the cluster.
        env.TMPDIR: os.environ.get(env.TMPDIR, cluster.temp_dir),
        # A job's entrypoint is `python jobs/…`: the Python that has Ray.
        env.PATH: os.pathsep.join([str(Path(sys.executable).parent), os.environ.get(env.PATH, os.defpath)]),
    }


def without_ray_client(ray_params: Any, head: bool) -> None:
    """A RAY_START_HOOK that disables the Ray client server; `ray start` has no option for it."""
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
        # Not in the project: the path of a socket may have at most 107 bytes. Not one of `temporary` either: it belongs
        # to the cluster, which lives on when this command ends, and goes with it.
        temp_dir=tempfile.mkdtemp(prefix="raysweep-", dir="/tmp"),
    )


def _check_ports(options: Options) -> None:
    if problems := ports.problems({"--port": _port(options), "--dashboard-port": _dashboard_port(options)}):
        raise BadInput(*problems)


def _port(options: Options) -> int:
    return options.port or PORT


def _dashboard_port(options: Options) -> int:
    return options.dashboard_port or DASHBOARD_PORT


def _command(cluster: Cluster, options: Options) -> list[str]:
    flags = {
        "port": _port(options),
        "dashboard-host": HOST,
        "dashboard-port": _dashboard_port(options),
        "dashboard-agent-listen-port": 0,  # 0: any free port, so that two clusters do not conflict
        "min-worker-port": 0,
        "max-worker-port": 0,
        "temp-dir": _ray_folder(cluster),
        "include-dashboard": True,  # fail, instead of only warning, if it cannot be started
    }
    if options.num_cpus is not None:
        flags["num-cpus"] = options.num_cpus
    # The `ray` of this Python, not the one on PATH.
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head"]
    return ray + [f"--{flag}={value}" for flag, value in flags.items()]


def _ray_folder(cluster: Cluster) -> Path:
    """Ray makes this folder, with logs and sockets, readable for everyone: so its parent is private."""
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
                start_new_session=True,  # so that Ctrl-C in this terminal does not reach the cluster
                timeout=START_SECONDS,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    if code != 0:
        reason = f"did not end within {START_SECONDS:g} s" if code is None else f"failed with exit code {code}"
        raise commands.failure(f"`ray start` {reason}", commands.said_in(log), "ray start")


def _wait_for_dashboard(cluster: Cluster) -> None:
    if not until(lambda: answers(cluster), START_SECONDS):
        log = _ray_folder(cluster) / "session_latest" / "logs" / "dashboard.log"
        what = f"{cluster.dashboard} does not answer within {START_SECONDS:g} s"
        raise commands.failure(what, commands.said_in(log), "ray dashboard")
