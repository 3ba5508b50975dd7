"""Where a cluster runs: a class per target, each with the same verbs. See `Target`."""

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
DASHBOARD_PORT = 8265


@dataclass(frozen=True)
class Options:
    """What a cluster is asked to be; None leaves it to the target. Each target takes those that it can meet.

    Attributes:
        port: of Ray's GCS, the address of `ray.init`.
        dashboard_port: of the dashboard and the Jobs API.
        num_cpus: CPUs that Ray may hand out on each node that runs trials.
        workers: nodes that run trials.
        memory: limit of each worker, such as `4g`.
        gpus: give this machine's GPUs to the workers.
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
        address: what `ray.init` takes on this machine, host:port; empty if it cannot be reached from here.
        storage: where its jobs save by default, a folder or a URL.
        token_path: file that holds the token.
        temp_dir: Ray's temporary folder, removed with the cluster.
        pids: processes without which the cluster is dead; none before it is up.
        endpoint: URL of its own S3 store as this machine sees it, if it has one.
        credentials_path: file that holds the keys of that store, as AWS_SHARED_CREDENTIALS_FILE.
        settings: file that the target's own tool reads.
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
    """What a target offers; what it does not say is as most have it.

    Attributes:
        options: the fields of Options that it takes.
        lasting: whether a cluster that does not answer may hold what is to be kept: only `down` removes it.
        resubmits: whether a job that is lost with its head is submitted again by the cluster, see `submit.resubmitter`.
    """

    options: ClassVar[frozenset[str]]
    lasting: ClassVar[bool] = True
    resubmits: ClassVar[bool] = False

    @abstractmethod
    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        """Starts a cluster and waits until it answers.

        Calls `record` as soon as there may be something to stop: whoever called removes it on an error.

        Raises:
            BadInput: the options cannot be met, and nothing was started.
            ClusterError: it did not start, with the end of the log that says why.
        """

    @abstractmethod
    def stop(self, cluster: Cluster, volumes: bool = False) -> str:
        """Ends everything that belongs to the cluster, dead or alive, with `volumes` what it stored, too.

        Returns:
            What was ended, such as `18 processes`.
        """

    @abstractmethod
    def logs(self, cluster: Cluster, follow: bool) -> int:
        """Prints what the cluster's own processes wrote; returns an exit code."""

    @abstractmethod
    def scale(self, cluster: Cluster, workers: int) -> None:
        """Changes the number of nodes that run trials, and waits until it is so.

        Raises:
            BadInput: the target cannot do it.
        """

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
        """Brings a cluster that does not answer up again, with what it holds and as it was asked for.

        Returns:
            The cluster, or None if there is nothing to keep of it: it is removed, and a new one started.

        Raises:
            ClusterError: it did not come up; nothing of it was removed.
        """
        return None

    def healthy(self, cluster: Cluster) -> bool:
        """Whether the cluster runs and answers.

        Raises:
            Unreachable: what it runs on does not answer, so that nobody knows.
        """
        return answers(cluster)

    def parts(self, cluster: Cluster) -> list[str]:
        """What a cluster consists of and how that does, a line each, as far as the target knows."""
        return []

    def remove_volumes(self, project: Path) -> None:  # noqa: B027 (most have none)
        """Removes what a cluster stored that is down already."""


def load(name: str) -> Target:
    """A target; its module is imported on first use: no target pays for another one's imports."""
    module, _, kind = CLASSES[name].partition(":")
    return cast(Target, getattr(importlib.import_module(module), kind)())


def refuse(name: str, target: Target, options: Options) -> None:
    """Names the options that a target cannot take.

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


def too_few(wanted: dict[str, int | None]) -> list[str]:
    """What is wrong with counts, by flag, that are given and less than one."""
    return [
        f"`{flag} {count}`: must be at least 1" for flag, count in wanted.items() if count is not None and count < 1
    ]


def answers(cluster: Cluster) -> bool:
    """Whether the cluster's dashboard takes its token."""
    try:
        token = Path(cluster.token_path).read_text().strip()
    except OSError:
        return False
    return ask(cluster.dashboard, token) is Answer.OK
