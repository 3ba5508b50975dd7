"""The variables that a job is given: those of `--env`, and the S3 settings of this shell if the cluster has none.

No message here has a value: each may be a secret.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raysweep import env
from raysweep.errors import BadInput
from raysweep.storage.base import KEY_SOURCES

if TYPE_CHECKING:
    from raysweep.clusters.targets import Cluster
    from raysweep.submit.request import JobRequest

Variables = dict[str, str | None]  # None: the job does not have it, whatever the cluster has

_AT_START = "a process reads it when it starts, long before a job has it: build it into the image"
# Names that would break a job, or do nothing.
REFUSED = {
    env.PATH: _AT_START,
    "PYTHONPATH": _AT_START,
    "PYTHONHOME": _AT_START,
    "LD_PRELOAD": _AT_START,
    "LD_LIBRARY_PATH": _AT_START,
    env.CUDA_VISIBLE_DEVICES: "Ray gives each trial its own GPUs: use --gpus-per-trial",
}
REFUSED_BEGINNINGS = {
    "RAYSWEEP_": "it is the kit's own, and has a flag where a job may have another value, such as --storage",
    "RAY_": "it is Ray's own, and belongs to the cluster: set it where the cluster is started",
    "__RAY": "it is Ray's own",
}
# Of all names and values: sealed, and with the rest of Ray's settings of a job, they become one variable of the driver,
# and Linux allows it 128 KiB.
MOST_BYTES = 48 * 2**10
S3_PREFIX = "AWS_"
STORES = (env.AWS_ENDPOINT_URL, env.AWS_ENDPOINT_URL_S3, env.AWS_DEFAULT_REGION)
# Which of two users' keys counts would depend on what else is set: so if the shell has some, the job has no others.
OF_KEYS = (*KEY_SOURCES, env.AWS_SECRET_ACCESS_KEY, env.AWS_SESSION_TOKEN, *STORES)


def parse(given: Sequence[str]) -> Variables:
    """The variables of `--env NAME`, with this shell's value, and `--env NAME=VALUE`.

    Raises:
        BadInput: all that is wrong: a name that is none, that a job cannot be given, that is not set here, or twice.
    """
    variables: Variables = {}
    problems = []
    for number, each in enumerate(given, 1):
        name, assigned, value = each.partition("=")
        if problem := _problem(name, number, assigned == "", name in variables):
            problems.append(problem)
        variables[name] = value if assigned else os.environ.get(name, "")
    if (size := len(json.dumps(variables))) > MOST_BYTES:
        problems.append(
            f"`--env`: {size} bytes of names and values, and a job can be given {MOST_BYTES}: put what is larger into"
            " a file of the storage"
        )
    if problems:
        raise BadInput(*problems)
    return variables


def _problem(name: str, number: int, from_shell: bool, again: bool) -> str | None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):  # perhaps a value that was given for its name
        return f"`--env` number {number}: does not begin with a name of letters, digits and _: use NAME or NAME=VALUE"
    beginnings = (why for start, why in REFUSED_BEGINNINGS.items() if name.startswith(start))
    if why := REFUSED.get(name) or next(beginnings, None):
        return f"`--env {name}`: no job can be given it: {why}"
    if again:
        return f"`--env {name}`: is given twice: leave one out"
    if from_shell and name not in os.environ:
        return f"`--env {name}`: is not set in this shell: export it, or use --env {name}=VALUE"
    return None


def of_shell(cluster: Cluster | None, request: JobRequest) -> Variables:
    """The S3 settings of this shell, for a job with a place in S3 on a cluster that has no keys of its own.

    That is the one on this machine: its environment is that of the shell which started it, however long ago.
    """
    if cluster is None or cluster.target != "local":
        return {}
    storage = request.storage or os.environ.get(env.RAYSWEEP_STORAGE) or cluster.storage
    if not any(place.startswith("s3://") for place in (storage, request.data or "")):
        return {}
    settings = {name: value for name, value in os.environ.items() if name.startswith(S3_PREFIX)}
    if not settings.keys() & {*KEY_SOURCES, *STORES}:
        return {}
    names = ", ".join(sorted(settings))
    print(f"the local cluster has no S3 keys of its own: the job gets {names} of this shell", file=sys.stderr)
    others = dict.fromkeys(OF_KEYS) if settings.keys() & {*KEY_SOURCES} else {}
    return others | settings
