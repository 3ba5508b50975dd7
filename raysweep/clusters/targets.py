"""Where a cluster runs: one class per target, all with the same methods. See `Target`."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, cast

from raysweep.clusters.ping import Answer, ask
from raysweep.errors import BadInput
from raysweep.spec.flags import flag_name

CLASSES = {
    "local": "raysweep.clusters.local:Local",
    "docker": "raysweep.clusters.docker:Docker",
    "kind": "raysweep.clusters.kubernetes.kind:Kind",
    "minikube": "raysweep.clusters.kubernetes.minikube:Minikube",
    "k8s": "raysweep.clusters.kubernetes.existing:Existing",
    "aws": "raysweep.clusters.aws:Aws",
}
TARGETS = tuple(CLASSES)
KUBERNETES = ("kind", "minikube", "k8s")  # those of them that have pods, and RayJobs
DASHBOARD_PORT = 8265


@dataclass(frozen=True)
class Options:
    """Options of a new cluster; None means the target's default. Each target accepts those that it supports.

    Attributes:
        port: of Ray's GCS, the address of `ray.init`.
        dashboard_port: of the dashboard and the Jobs API.
        num_cpus: CPUs that Ray may assign on each node that runs trials.
        workers: nodes that run trials.
        memory: limit of each worker, such as `4g`.
        gpus: whether the workers use this machine's GPUs.
        s3_port: of the S3 store.
        context: of the kubeconfig.
        overlay: of k8s/overlays, or a folder of the user's own.
    """

    port: int | None = None
    dashboard_port: int | None = None
    num_cpus: int | None = None
    workers: int | None = None
    memory: str | None = None
    gpus: bool | None = None
    s3_port: int | None = None
    context: str | None = None
    overlay: str | None = None


@dataclass(frozen=True)
class Cluster:
    """A cluster of this project, as recorded in `.raysweep/cluster.json`. It never holds a secret.

    Attributes:
        target: one of TARGETS.
        id: unique; the processes of a local cluster carry it in their environment.
        dashboard: URL of the dashboard and the Jobs API.
        address: host:port for `ray.init` on this machine; empty if it cannot be reached from here.
        storage: where its jobs save by default, a folder or a URL.
        token_path: file that holds the token.
        temp_dir: Ray's temporary folder, removed with the cluster.
        pids: processes that the cluster needs to be alive; none before it is up.
        endpoint: URL of its own S3 store as this machine sees it, if it has one.
        credentials_path: file with the keys of that store, for AWS_SHARED_CREDENTIALS_FILE.
        settings: file for the target's own tool.
    """

    target: str
    id: str
    dashboard: str
    address: str
    storage: str
    token_path: str
    temp_dir: str = ""
    pids: tuple[int, ...] = ()
    endpoint: str = ""
    credentials_path: str = ""
    settings: str = ""


class Target(ABC):
    """The interface of a target; the defaults are right for most.

    Attributes:
        options: the fields of Options that it supports.
        lasting: whether a cluster that does not answer may hold data to be kept: then only `down` removes it.
        resubmits: whether the cluster submits a job again that was lost with its head, see `submit.resubmitter`.
    """

    options: ClassVar[frozenset[str]]
    lasting: ClassVar[bool] = True
    resubmits: ClassVar[bool] = False

    @abstractmethod
    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        """Starts a cluster and waits until it answers.

        Calls `record` as soon as there may be something to stop, so that the caller can remove it on an error.

        Raises:
            BadInput: the options cannot be met, and nothing was started.
            ClusterError: it did not start, with the end of the log that says why.
        """

    @abstractmethod
    def stop(self, cluster: Cluster, volumes: bool = False) -> str:
        """Ends everything that belongs to the cluster, dead or alive; with `volumes` also removes its stored data.

        Returns:
            What was ended, such as `18 processes`.
        """

    @abstractmethod
    def logs(self, cluster: Cluster, follow: bool) -> int:
        """Prints the logs of the cluster's own processes; returns an exit code."""

    @abstractmethod
    def scale(self, cluster: Cluster, workers: int) -> None:
        """Changes the number of nodes that run trials, and waits for it.

        Raises:
            BadInput: the target does not support it.
        """

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
        """Brings a cluster that does not answer up again, with its data and its original options.

        Returns:
            The cluster, or None if it has nothing to keep: it is then removed, and a new one is started.

        Raises:
            ClusterError: it did not come up; nothing was removed.
        """
        return None

    def healthy(self, cluster: Cluster) -> bool:
        """Whether the cluster is running and answers.

        Raises:
            Unreachable: its Kubernetes cluster does not answer, so its state is unknown.
        """
        return answers(cluster)

    def parts(self, cluster: Cluster) -> list[str]:
        """The parts of a cluster and their state, one line each, if the target knows them."""
        return []

    def remove_volumes(self, project: Path) -> None:  # noqa: B027 (most have none)
        """Removes the stored data of a cluster that is down already."""


def load(name: str) -> Target:
    """A target; its module is imported on first use, so that no target pays for another one's imports."""
    module, _, class_name = CLASSES[name].partition(":")
    return cast(Target, getattr(importlib.import_module(module), class_name)())


def refuse(name: str, target: Target, options: Options) -> None:
    """Refuses options that a target does not support.

    Raises:
        BadInput: some were given.
    """
    flags = {field.name: flag_name(field) for field in fields(options)}
    given = [field for field in flags if getattr(options, field) is not None]
    takes = ", ".join(flags[field] for field in flags if field in target.options)
    if wrong := [
        f"`{flags[field]}`: the target {name} takes {takes}" for field in given if field not in target.options
    ]:
        raise BadInput(*wrong)


def below_one(counts: dict[str, int | None]) -> list[str]:
    """Problems with counts, by flag, that are given and less than 1."""
    return [
        f"`{flag} {count}`: must be at least 1" for flag, count in counts.items() if count is not None and count < 1
    ]


def answers(cluster: Cluster) -> bool:
    """Whether the cluster's dashboard accepts its token."""
    try:
        token = Path(cluster.token_path).read_text().strip()
    except OSError:
        return False
    return ask(cluster.dashboard, token) is Answer.OK
