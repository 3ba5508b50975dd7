"""Where a cluster runs: one module per target, each with the same three verbs. See `Target`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

TARGETS = ("local",)


@dataclass(frozen=True)
class Options:
    """What a cluster is asked to be.

    Attributes:
        port: of Ray's GCS, the address of `ray.init`.
        dashboard_port: of the dashboard and the Jobs API.
        num_cpus: CPUs that Ray may hand out; as many as the machine has if not given.
    """

    port: int = 6379
    dashboard_port: int = 8265
    num_cpus: int | None = None


@dataclass(frozen=True)
class Cluster:
    """A cluster of this project, as recorded in `.raysweep/cluster.json`. It never holds the token.

    Attributes:
        target: one of TARGETS.
        id: unique; the processes of a local cluster carry it in their environment.
        dashboard: URL of the dashboard and the Jobs API.
        address: what `ray.init` takes, host:port.
        storage: where its jobs save by default, a folder or a URL.
        token_path: file that holds the token.
        temp_dir: Ray's temporary folder, removed with the cluster.
        pids: processes without which the cluster is dead; none before it is up.
    """

    target: str
    id: str
    dashboard: str
    address: str
    storage: str
    token_path: str
    temp_dir: str = ""
    pids: tuple[int, ...] = ()


class Target(Protocol):
    """What a module of this package offers."""

    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        """Starts a cluster and waits until it answers.

        Calls `record` as soon as there may be something to stop: whoever called removes it on an error.

        Raises:
            BadInput: the options cannot be met, and nothing was started.
            ClusterError: it did not start, with the end of the log that says why.
        """

    def stop(self, cluster: Cluster) -> int:
        """Ends everything that belongs to the cluster, dead or alive; returns how many processes that was."""

    def healthy(self, cluster: Cluster) -> bool:
        """Whether the cluster runs and answers."""


def load(name: str) -> Target:
    """The module of a target, imported on first use: no target pays for another one's imports."""
    return cast(Target, importlib.import_module(f"raysweep.targets.{name}"))
