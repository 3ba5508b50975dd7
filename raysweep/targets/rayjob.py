"""A sweep as a RayJob: a cluster of its own, from the overlay of the project's Kubernetes target, for its time.

The code goes to the storage, beside the sweep; the job's log is kept there too (see `raysweep.keep_log`), and is what
`run` follows. So it needs nothing of the job's cluster, and neither does a retry.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import yaml

from raysweep.client import DETACHED, NEVER_UPLOADED
from raysweep.errors import BadInput, ClusterError
from raysweep.keep_log import exit_code
from raysweep.storage import Storage, open_storage
from raysweep.targets import Cluster, manifests, raycluster, waiting
from raysweep.targets.kubernetes import Kube, open_cluster
from raysweep.targets.manifests import NAMESPACE, Additions, Object, replace

TARGETS = ("kind", "minikube", "k8s")
POLL_SECONDS = 1.0
MOST_LETTERS = 47  # of a RayJob's name, by KubeRay
BAD_INPUT = 2  # an exit code that a further try does not change


def run(
    project: Path, cluster: Cluster, strategy: str, name: str, arguments: Sequence[str], storage: str, follow: bool
) -> int:
    """Submits a strategy as a RayJob, follows it, and takes it away with its cluster; a running one is followed.

    Args:
        project: folder with jobs/, tasks/ and raysweep/.
        cluster: the project's, of a Kubernetes target.
        strategy: a file of jobs/.
        name: of the sweep, which is continued if it exists.
        arguments: the job's own flags.
        storage: where the sweep is kept; this process and the job both reach it.
        follow: print the job's log until its end.

    Returns:
        The driver's exit code; 0 without `follow`; DETACHED after Ctrl-C, which leaves the job running.

    Raises:
        BadInput: the target has no RayJobs.
        ClusterError: it cannot run, in one line, and was taken away again.
    """
    if cluster.target not in TARGETS:
        raise BadInput(f"the target {cluster.target} has no RayJobs, only {', '.join(TARGETS)}: use `make submit`")
    raycluster.healthy(cluster)  # its store is reached through it
    kube, place, job = open_cluster(cluster.settings), open_storage(storage).child(name), job_name(strategy, name)
    seen = set(_logs(place))
    began = datetime.now(UTC).replace(microsecond=0)
    if kube.get("RayJob", job) is None:
        code = upload_code(project, place)
        kept = ["python", "-m", "raysweep.keep_log", place.child("logs").url]
        sweep = ["python", f"jobs/{strategy}.py", "--name", name, "--storage", storage, "--resume", "auto"]
        entrypoint = shlex.join([*kept, *sweep, *arguments])
        kube.apply([render(project, job, entrypoint, code)])
        click.echo(f"submitted rayjob {job}: storage {place.url}")
    else:
        click.echo(f"rayjob {job} is there already: following it")
        seen = set()
    if not follow:
        return 0
    try:
        return _follow(kube, job, place, seen, began)
    except KeyboardInterrupt:
        click.echo(
            f"\ndetached, {job} goes on; the same command follows it; stop: kubectl -n {NAMESPACE} delete rayjob {job}"
        )
        return DETACHED


def job_name(strategy: str, name: str) -> str:
    """The RayJob's: strategy and sweep as a DNS label; a hash keeps apart what that makes the same."""
    plain = re.sub(r"[^a-z0-9]+", "-", f"{strategy}-{name}".lower()).strip("-")
    if plain == f"{strategy}-{name}" and len(plain) <= MOST_LETTERS:
        return plain
    digest = hashlib.sha256(f"{strategy}/{name}".encode()).hexdigest()[:6]
    return f"{plain[: MOST_LETTERS - 7].rstrip('-')}-{digest}"


def upload_code(project: Path, place: Storage) -> str:
    """Packs the project as `ray job submit --working-dir` would, into the sweep's storage; returns its URL."""
    from ray._private.runtime_env.packaging import create_package

    logging.getLogger("ray").setLevel(logging.WARNING)  # what it packs and where is not for the job's reader
    with tempfile.TemporaryDirectory(prefix="raysweep-code-") as folder:
        package = Path(folder) / "code.zip"
        create_package(str(project), package, True, include_parent_dir=True, excludes=list(NEVER_UPLOADED), logger=None)
        data = package.read_bytes()
    key = f"code/{hashlib.sha256(data).hexdigest()[:16]}.zip"
    place.put(key, data)
    return f"{place.url}/{key}"


def render(project: Path, job: str, entrypoint: str, code: str) -> Object:
    """The RayJob of the cluster that is applied: same images, same workers."""
    from raysweep.cluster import FOLDER

    added = Additions(components=("rayjob",))
    added.patch(
        "RayJob",
        "sweep",
        replace("/metadata/name", job),
        replace("/spec/entrypoint", entrypoint),
        replace("/spec/runtimeEnvYAML", yaml.safe_dump({"working_dir": code})),
    )
    folder = project / FOLDER / "rayjob"
    manifests.write(folder, project / FOLDER / "kubernetes", added, project / "k8s" / "components")
    found = manifests.find(manifests.render(folder), "RayJob", job)
    assert found is not None
    return found


def _follow(kube: Kube, job: str, place: Storage, seen: set[str], began: datetime) -> int:
    """Prints what the tries log, one after the other, until the last one's end; then takes the RayJob away."""
    printer, shown = _Printer(place, seen), ""
    while not (status := _status(kube, job)).get("ended"):
        with _removed_on_error(kube, job):
            _refuse_hopeless(kube, status, began)
        if (now := status["line"]) != shown:
            click.echo(f"  {now}")
            shown = now
        printer.print_new()
        if printer.code == BAD_INPUT:
            break
        time.sleep(POLL_SECONDS)
    printer.print_new()
    kube.delete("RayJob", job)
    succeeded = status.get("job") == "SUCCEEDED"
    click.echo(f"rayjob {job}: {status.get('job') or status['line']}{'' if succeeded else status['message']}")
    return printer.code if printer.code is not None else (0 if succeeded else 1)


def _status(kube: Kube, job: str) -> dict[str, Any]:
    found = kube.get("RayJob", job)
    if found is None:
        raise ClusterError(f"rayjob {job} was deleted by somebody else; its sweep can be continued by the same command")
    status = found.get("status") or {}
    state, tries = status.get("jobDeploymentStatus") or "New", int(status.get("failed") or 0)
    message = status.get("message") or ""
    return {
        "ended": state in ("Complete", "Failed", "ValidationFailed"),
        "job": status.get("jobStatus"),
        "cluster": status.get("rayClusterName"),
        "line": " ".join(filter(None, (state, f"(after {tries} failed tries)" if tries else ""))),
        "message": f": {waiting.line(message)}" if message else "",
    }


def _refuse_hopeless(kube: Kube, status: dict[str, Any], began: datetime) -> None:
    """A head that cannot start fails the job at once; workers that find no room only make it slower."""
    if status["line"].startswith("Initializing") and status["cluster"]:
        head = f"ray.io/cluster={status['cluster']},ray.io/node-type=head"
        if reason := waiting.trouble(kube.core, NAMESPACE, began, raycluster.HEAD_PATIENCE, head):
            raise ClusterError(f"rayjob: {reason}")


@contextlib.contextmanager
def _removed_on_error(kube: Kube, job: str) -> Iterator[None]:
    try:
        yield
    except ClusterError:
        kube.delete("RayJob", job)
        raise


def _logs(place: Storage) -> list[str]:
    return place.list("logs")


class _Printer:
    """Prints what is new in the logs of a sweep that were not there before."""

    def __init__(self, place: Storage, seen: set[str]) -> None:
        self._place, self._seen = place, seen
        self._printed: dict[str, int] = {}
        self.code: int | None = None

    def print_new(self) -> None:
        """Prints it; `code` is the exit code at the end of the newest log."""
        for key in _logs(self._place):
            if key not in self._seen:
                text = self._place.get(key).decode(errors="replace")
                click.echo(text[self._printed.get(key, 0) :], nl=False)
                self._printed[key] = len(text)
                self.code = exit_code(text)
