"""The target `aws`: machines started by `ray up cluster.yaml`, after they were shown and the user has confirmed.

The dashboard is reached through `ray dashboard`, an SSH tunnel.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from raysweep import env, kit
from raysweep.clusters import security_group, vm_config
from raysweep.clusters.shared import commands, forward, ports, processes
from raysweep.clusters.shared.ports import HOST
from raysweep.clusters.shared.until import until
from raysweep.clusters.targets import DASHBOARD_PORT, Cluster, Options, Target, answers
from raysweep.errors import BadInput, ClusterError

DASHBOARD_SECONDS = 120


class Aws(Target):
    """Machines on AWS, by `ray up cluster.yaml`; their disks are deleted with them, the bucket is the user's own."""

    options = frozenset({"dashboard_port"})

    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        """Checks cluster.yaml, shows what it starts, asks for confirmation, and runs `ray up`."""
        path, port = _own_file(project), options.dashboard_port or DASHBOARD_PORT
        config = _checked(path, ports.problems({"--dashboard-port": port}))
        cluster = Cluster(
            target="aws",
            id=f"raysweep-{config['cluster_name']}",
            dashboard=f"http://{HOST}:{port}",
            address="",
            storage=os.environ.get(env.RAYSWEEP_STORAGE) or vm_config.storage(config),
            token_path=str(token),
            settings=str(path),
        )
        record(cluster)
        _up(cluster)
        return cluster

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster:
        """Runs `ray up` again, which keeps existing machines; with the same confirmation as at first."""
        _checked(Path(cluster.settings))
        _up(cluster)
        return cluster

    def stop(self, cluster: Cluster, volumes: bool = False) -> str:
        """Runs `ray down`; data in S3 are kept."""
        processes.end(cluster.id)
        _ray("down", "--yes", cluster.settings)
        return "all machines"

    def healthy(self, cluster: Cluster) -> bool:
        """Whether the dashboard answers; a tunnel that ended is started again."""
        try:
            _tunnel(cluster)
        except ClusterError:
            return False
        return True

    def scale(self, cluster: Cluster, workers: int) -> None:
        """Not supported."""
        raise BadInput(
            f"the target aws grows by itself, to the max_workers of {vm_config.FILE}: change them, and up again"
        )

    def logs(self, cluster: Cluster, follow: bool) -> int:
        """Runs `ray monitor`: the autoscaler's log."""
        return subprocess.call([*_command(), "monitor", cluster.settings])


def _own_file(project: Path) -> Path:
    """The project's cluster.yaml: region, bucket and image are the user's own."""
    path = project / vm_config.FILE
    if not path.exists():
        raise BadInput(f"there is no {path}: copy {kit.HOME / vm_config.FILE} there, and make it yours")
    return path


def _checked(path: Path, problems: Sequence[str] = ()) -> vm_config.Config:
    """The configuration, if it has no problems and the user has confirmed the machines that it starts."""
    config = vm_config.read(path)
    if all_problems := [*vm_config.problems(config), *problems]:
        raise BadInput(*all_problems)
    click.echo("\n".join(vm_config.summary(config)))
    if not click.confirm("Start it? The head costs from now on", default=False):
        raise BadInput("not started")
    return config


def _up(cluster: Cluster) -> None:
    security_group.hold(vm_config.read(Path(cluster.settings)))
    _ray("up", "--yes", "--no-config-cache", cluster.settings)
    _tunnel(cluster)


def _command() -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts"]


def _ray(*arguments: str) -> None:
    if (code := subprocess.call([*_command(), *arguments])) != 0:
        raise ClusterError(f"`ray {arguments[0]}` failed with exit code {code}; its output above says why")


def _tunnel(cluster: Cluster) -> None:
    log = Path(cluster.token_path).with_name("tunnel.log")
    if not processes.marked(cluster.id):
        port = cluster.dashboard.rpartition(":")[2]
        ray = shlex.join([*_command(), "dashboard", cluster.settings, f"--port={port}", "--no-config-cache"])
        forward.detach(ray, cluster.id, log)
    if not until(lambda: answers(cluster), DASHBOARD_SECONDS, pause=0.5):
        said = commands.last_lines(commands.said_in(log))
        raise ClusterError(
            f"{cluster.dashboard} does not answer within {DASHBOARD_SECONDS} s: {said}\nsee {log}, and `ray monitor`"
        )
