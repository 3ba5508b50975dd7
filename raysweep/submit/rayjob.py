"""A sweep as a RayJob: a temporary cluster of its own, from the overlay of the project's Kubernetes target.

The code is uploaded to the storage, beside the sweep; the job's log is saved there too (see `log_to_storage`), and
`run` follows it there. So neither following nor a retry depends on the job's cluster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import secrets
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from raysweep import env, kit
from raysweep.clusters.kubernetes import job_secret, manifests, raycluster, waiting
from raysweep.clusters.kubernetes.api import Kube, open_cluster
from raysweep.clusters.kubernetes.manifests import NAMESPACE, Additions, Object, replace
from raysweep.clusters.kubernetes.plan import folder_as_storage
from raysweep.clusters.kubernetes.waiting import Trouble
from raysweep.clusters.targets import KUBERNETES, Cluster
from raysweep.errors import BadInput, ClusterError, StorageError, Unreachable
from raysweep.storage import Storage, code_upload, open_storage
from raysweep.submit import kueue, log_to_storage, requirements
from raysweep.submit.request import JobRequest
from raysweep.submit.submit import DETACHED

T = TypeVar("T")

POLL_SECONDS = 1.0
MAX_NAME_LENGTH = 47  # of a RayJob's name; KubeRay's limit
BAD_INPUT = 2  # exit code; a retry would not help
HEAD_PATIENCE = 900.0  # seconds for which its pods may be unschedulable: nodes may be busy, or a cloud adds one
AWAY_SECONDS = 300.0  # for which the API server may not answer
LOGS = "raysweep/logs"  # annotation: the folder of this job's logs in the sweep's storage


@dataclass(frozen=True)
class Limits:
    """Limits of a RayJob.

    Attributes:
        deadline: seconds after which KubeRay ends it, from the begin of its newest cluster on; None for that of the
            manifests.
        queue: of Kueue, in which the job waits until there is room for its whole cluster.
        priority: a WorkloadPriorityClass of Kueue: which job waits, and which one gives way to it.
    """

    deadline: int | None = None
    queue: str | None = None
    priority: str | None = None


@dataclass(frozen=True)
class RayJob:
    """The job's own values in its manifest.

    Attributes:
        name: of the object.
        entrypoint: the command.
        code: URL of the project's code.
        logs: the folder of its logs in the sweep's storage.
        requirements: what Ray installs for it.
    """

    name: str
    entrypoint: str
    code: str
    logs: str
    requirements: tuple[str, ...] = ()


def run(project: Path, cluster: Cluster, request: JobRequest, limits: Limits, follow: bool) -> int:
    """Submits a strategy as a RayJob, or follows it if it exists; deletes it with its cluster at its end.

    Args:
        project: its folder.
        cluster: the project's, of a Kubernetes target.
        request: with a storage that both this process and the job can reach; an existing sweep is continued.
        limits: its limits.
        follow: print the job's log until its end.

    Returns:
        The driver's exit code; 0 without `follow`; DETACHED after Ctrl-C, which leaves the job running.

    Raises:
        BadInput: the target has no RayJobs, the storage is a folder, or the project cannot be packed.
        ClusterError: it can never run, with the reason in one line; it was deleted again.
    """
    assert request.storage is not None
    if cluster.target not in KUBERNETES:
        raise BadInput(
            f"the target {cluster.target} has no RayJobs, only {', '.join(KUBERNETES)}: use `raysweep submit`"
        )
    if problems := folder_as_storage(request.storage):
        raise BadInput(*problems)
    kube, place = open_cluster(cluster.settings), open_storage(request.storage).child(request.name)
    kube.echo()
    raycluster.healthy(cluster)  # restarts the port forward to the cluster's store
    trouble = Trouble(kube, NAMESPACE, HEAD_PATIENCE, grows=cluster.target == "k8s")
    job = job_name(request.strategy, request.name)
    if (existing := kube.get("RayJob", job)) is None:
        kueue.check(kube, limits.queue, limits.priority)
        requirements.announce(request.requirements, on_this_machine=False, on_kubernetes=True)
        submitted = _uploaded(job, project, request, place)
        _apply(kube, render(project, submitted, limits), request.variables)
        click.echo(f"submitted rayjob {job}: storage {place.url}")
        logs = submitted.logs
    else:
        click.echo(f"rayjob {job} is there already: following it")
        logs = (existing["metadata"].get("annotations") or {}).get(LOGS, "logs")
    if not follow:
        return 0
    stop = shlex.join([*kube.command, "delete", "rayjob", job])
    try:
        return _Follower(kube, job, _Printer(place, logs), trouble).follow()
    except KeyboardInterrupt:
        click.echo(f"\ndetached, {job} keeps running; the same command follows it; stop: {stop}")
        return DETACHED


def _apply(kube: Kube, rayjob: Object, variables: Mapping[str, str | None]) -> None:
    """Creates the RayJob, with its variables as a Secret that is deleted with it.

    The Secret is there first, since a pod that lacks it counts as one that can never start; it is given its owner then.

    Raises:
        ClusterError: one of them was refused; neither is left.
    """
    if not variables:
        kube.apply([rayjob])
        return
    name = rayjob["metadata"]["name"]
    job_secret.use(rayjob, variables)
    kube.apply([job_secret.secret(name, variables)])
    try:
        kube.apply([rayjob])
        owner = kube.get("RayJob", name)
        kube.apply([job_secret.secret(name, variables, owner)])
    except BaseException:  # also Ctrl-C
        with contextlib.suppress(ClusterError):  # the first error says more
            kube.delete("RayJob", name, alone=True)
            kube.delete("Secret", job_secret.name(name), api_version="v1")
        raise


def _uploaded(name: str, project: Path, request: JobRequest, place: Storage) -> RayJob:
    """The RayJob of a request, whose code has been uploaded to the sweep's storage."""
    code, logs = code_upload.upload(project, place), f"logs/{secrets.token_hex(4)}"
    wrapper = log_to_storage.command(place.child(logs).url)
    asked = request.from_here(project, on_this_machine=False)
    resuming = dataclasses.replace(asked, arguments=("--resume", "auto", *asked.arguments))
    return RayJob(name, shlex.join([*wrapper, *resuming.command(project)]), code, logs, request.requirements)


def job_name(strategy: str, name: str) -> str:
    """The RayJob's name: strategy and sweep as a DNS label, with a hash if that is ambiguous or too long."""
    plain = re.sub(r"[^a-z0-9]+", "-", f"{strategy}-{name}".lower()).strip("-")
    if plain == f"{strategy}-{name}" and len(plain) <= MAX_NAME_LENGTH:
        return plain
    digest = hashlib.sha256(f"{strategy}/{name}".encode()).hexdigest()[:6]
    return f"{plain[: MAX_NAME_LENGTH - 7].rstrip('-')}-{digest}"


def render(project: Path, job: RayJob, limits: Limits) -> Object:
    """The RayJob, with the images and workers of the applied cluster; in a queue, with all workers from the start."""
    added = Additions(components=("rayjob",) if limits.queue is None else ("rayjob", "kueue"))
    added.patch(
        "RayJob",
        "sweep",
        replace("/metadata/name", job.name),
        replace("/spec/entrypoint", job.entrypoint),
        replace(
            "/spec/runtimeEnvYAML", json.dumps({"working_dir": job.code, **requirements.runtime_env(job.requirements)})
        ),
        replace("/metadata/annotations", {LOGS: job.logs}),
        *_if_given(limits.queue, _label(kueue.QUEUE)),
        *_if_given(limits.priority, _label(kueue.PRIORITY)),
        *_if_given(limits.deadline, "/spec/activeDeadlineSeconds"),
    )
    folder = project / kit.FOLDER / "rayjob" / job.name  # two may be submitted at the same time
    manifests.write(folder, project / kit.FOLDER / "kubernetes", added, kit.HOME / "k8s" / "components")
    manifest = manifests.find(manifests.render(folder), "RayJob", job.name)
    assert manifest is not None
    _disable_tickets(manifest["spec"]["rayClusterSpec"])
    if limits.queue is not None:
        _fix_size(manifest["spec"]["rayClusterSpec"])
    return manifest


def _label(name: str) -> str:
    return f"/metadata/labels/{name.replace('/', '~1')}"


def _if_given(value: object, path: str) -> list[Object]:
    return [] if value is None else [replace(path, value)]


def _disable_tickets(cluster: Object) -> None:
    """Makes the job leave no ticket for the resubmitter, since KubeRay itself retries it."""
    for container in cluster["headGroupSpec"]["template"]["spec"]["containers"]:
        container.setdefault("env", []).append({"name": env.RAYSWEEP_JOBS, "value": ""})


def _fix_size(cluster: Object) -> None:
    """Gives each group its largest number of workers, since Kueue does not admit clusters with autoscaling."""
    cluster.pop("enableInTreeAutoscaling", None)
    cluster.pop("autoscalerOptions", None)
    for group in cluster["workerGroupSpecs"]:
        group["replicas"] = group["minReplicas"] = group["maxReplicas"]


class _Follower:
    """Follows a RayJob until the end of its last try; retries while the API server does not answer."""

    def __init__(self, kube: Kube, job: str, printer: _Printer, trouble: Trouble) -> None:
        self._kube, self._job, self._printer, self._trouble = kube, job, printer, trouble
        self._shown = ""

    def follow(self) -> int:
        """Prints the logs of the tries, one after the other; then deletes the RayJob and returns the exit code."""
        while not (status := self._with_retries(self._status)).ended:
            self._raise_if_hopeless(status)
            self._show(status)
            self._printer.print_new()
            if self._printer.code == BAD_INPUT:
                break
            time.sleep(POLL_SECONDS)
        self._printer.print_last()
        self._delete()
        succeeded = status.job == "SUCCEEDED"
        click.echo(f"rayjob {self._job}: {status.job or status.line}{'' if succeeded else status.message}")
        code = self._printer.code
        return code if code is not None else (0 if succeeded else 1)

    def _with_retries(self, call: Callable[[], T]) -> T:
        retry = Retrying(
            retry=retry_if_exception_type(Unreachable),
            stop=stop_after_delay(AWAY_SECONDS),
            wait=wait_random_exponential(max=5),
            before_sleep=lambda state: self._print_change(str(state.outcome and state.outcome.exception())),
            reraise=True,
        )
        return retry(call)

    def _status(self) -> _Status:
        rayjob = self._kube.get("RayJob", self._job)
        if rayjob is None:
            raise ClusterError(
                f"rayjob {self._job} was deleted by somebody else; its sweep can be continued by the same command"
            )
        return _Status.of(rayjob)

    def _raise_if_hopeless(self, status: _Status) -> None:
        """Deletes the job and raises ClusterError if its pods can never start; not if they only have to wait."""
        if status.cluster is None:
            owners: tuple[str, ...] = (self._job,)
        else:
            owners = (self._job, status.cluster)
        try:
            reason = self._trouble(*owners)
        except Unreachable as error:
            self._print_change(str(error))
            return
        if reason:
            self._print_change(f"it is deleted, since it can never run: {reason}")
            self._delete()
            raise ClusterError(f"rayjob: {reason}")

    def _delete(self) -> None:
        """Deletes the job without waiting for its pods, which may take a minute of grace to end."""
        self._with_retries(lambda: self._kube.delete("RayJob", self._job, alone=True))

    def _show(self, status: _Status) -> None:
        why = ""
        with contextlib.suppress(ClusterError):  # it goes on, whether or not its reasons can be read
            if status.suspended:
                why = kueue.why_waiting(self._kube, status.suspended)
            elif status.cluster and not status.line.startswith("Running"):
                why = waiting.state(self._kube, NAMESPACE, status.cluster)
        self._print_change(f"{status.line}{': ' if why else ''}{why}")

    def _print_change(self, text: str) -> None:
        if text != self._shown:
            click.echo(f"  {text}")
            self._shown = text


@dataclass(frozen=True)
class _Status:
    """KubeRay's status of a RayJob; `suspended` is its uid while a queue holds it back."""

    ended: bool
    job: str | None
    cluster: str | None
    line: str
    message: str
    suspended: str | None = None

    @classmethod
    def of(cls, rayjob: Object) -> _Status:
        status = rayjob.get("status") or {}
        state, tries = status.get("jobDeploymentStatus") or "New", int(status.get("failed") or 0)
        message = status.get("message") or ""
        return cls(
            ended=state in ("Complete", "Failed", "ValidationFailed"),
            job=status.get("jobStatus"),
            cluster=status.get("rayClusterName"),
            line=" ".join(filter(None, (state, f"(after {tries} failed tries)" if tries else ""))),
            message=f": {waiting.line(message)}" if message else "",
            suspended=rayjob["metadata"]["uid"] if rayjob.get("spec", {}).get("suspend") else None,
        )


class _Printer:
    """Prints new output in the logs of a RayJob's tries. Each log consists of parts, of which only the newest grows."""

    def __init__(self, place: Storage, logs: str) -> None:
        self._place, self._logs = place, logs
        self._printed: dict[str, int] = {}
        self._complete: set[str] = set()
        self.code: int | None = None

    def print_new(self) -> None:
        """Prints new output, if the storage is available; sets `code` to the exit code at the end of the newest log."""
        with contextlib.suppress(StorageError):
            self._print(self._place)

    def print_last(self) -> None:
        """Prints the rest; waits for an unavailable storage, and prints a message if the log cannot be read."""
        try:
            self._print(self._place.patient())
        except StorageError as error:
            click.echo(f"  the end of the log cannot be read: {error}")

    def _print(self, place: Storage) -> None:
        keys = place.list(self._logs)
        for key in [key for key in keys if key not in self._complete]:
            text = place.get(key).decode(errors="replace")
            click.echo(text[self._printed.get(key, 0) :], nl=False)
            self._printed[key] = len(text)
            self.code = log_to_storage.exit_code(text)
        self._complete.update(keys[:-1])
