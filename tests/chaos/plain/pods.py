"""Faults of pods: the driver is a job on the Ray cluster of a kind cluster."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysweep.errors import ClusterError
from tests.chaos.plain.run import LONG_S, as_job
from tests.k8s.conftest import running_kind
from tests.k8s.kind_project import KindProject
from tests.waiting import until

FAULTS = ("pod-killed", "pod-deleted", "head-pod-deleted")


def on_pods(faults: list[str]) -> Iterator[dict[str, Any]]:
    """Faults of pods: the driver is a job on the Ray cluster of a kind cluster."""
    with tempfile.TemporaryDirectory(prefix="plain-") as place, running_kind(Path(place)) as kind:
        kind.state("none")  # sets what S3 needs
        for fault in faults:
            yield {"fault": fault, **_pod(fault, kind)}


def _pod(fault: str, kind: KindProject) -> dict[str, Any]:
    sweep = as_job(fault, kind.ray, kind.folder, kind.env | kind.ray_env, "raysweep-store:8333")
    if fault == "head-pod-deleted":
        (head,) = kind.pods("ray.io/node-type=head")
        kind.kubectl("delete", "pod", head["metadata"]["name"])
        sweep.process.communicate()
        until(lambda: _forgot(kind), "another head answers", LONG_S)
        sweep.again()
    else:
        how = ("--grace-period=0", "--force") if fault == "pod-killed" else ("--wait=false",)
        kind.kubectl("delete", "pod", sweep.steps()[-1][4], *how)
    return sweep.end()


def _forgot(kind: KindProject) -> bool:
    """Whether a head answers that knows of no job: it is a new one."""
    with contextlib.suppress(ClusterError, RuntimeError):
        return not kind.jobs()
    return False
