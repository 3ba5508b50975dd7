"""The cluster that the commands connect to, its token, and its storage."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_delay, wait_fixed

from raysweep import env
from raysweep.clusters import lifecycle, targets
from raysweep.clusters.ping import LOOPBACK, Answer, ask, headers
from raysweep.clusters.shared.s3_keys import environment
from raysweep.errors import BadInput, ClusterError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESSES = (env.RAY_API_SERVER_ADDRESS, env.RAY_ADDRESS)  # in Ray's own order
AWS_KEYS = (
    env.AWS_ACCESS_KEY_ID,
    env.AWS_SECRET_ACCESS_KEY,
    env.AWS_SESSION_TOKEN,
    env.AWS_PROFILE,
    env.AWS_ENDPOINT_URL_S3,
)
PATIENCE_S = 30.0  # to wait for a cluster that does not answer
TOKEN_FIX = "set RAY_AUTH_TOKEN_PATH to the cluster's token file, or RAY_AUTH_TOKEN to the token"


@dataclass(frozen=True)
class Access:
    """The address of the Jobs API, and its token.

    Attributes:
        dashboard: its URL.
        token: the secret, or None if there is none.
        source: where the token comes from: a variable's name or a file.
    """

    dashboard: str
    token: str | None = field(repr=False)
    source: str


def access(project: Path) -> Access:
    """The address is that of the project's cluster, else from Ray's variables; the token is from Ray's variables, else
    from the cluster's own file.

    Raises:
        BadInput: there is no cluster, or the named token cannot be read.
    """
    own = lifecycle.read(project)
    dashboard = own.dashboard if own else next((os.environ[v] for v in ADDRESSES if os.environ.get(v)), None)
    if dashboard is None:
        raise BadInput(f"no cluster is running: start one with `raysweep cluster up`, or set {ADDRESSES[0]} to its URL")
    if not dashboard.startswith(("http://", "https://")):
        raise BadInput(
            f"the address `{dashboard}` is not the URL of a dashboard: set {ADDRESSES[0]} to http://host:8265"
        )
    if token := os.environ.get(env.RAY_AUTH_TOKEN):
        return Access(dashboard, token, env.RAY_AUTH_TOKEN)
    if path := os.environ.get(env.RAY_AUTH_TOKEN_PATH):
        return Access(dashboard, _token(Path(path)), f"RAY_AUTH_TOKEN_PATH={path}")
    return Access(dashboard, _token(Path(own.token_path)) if own else None, own.token_path if own else "")


def connect(project: Path) -> JobSubmissionClient:
    """Ray's client of the project's cluster, with its token.

    Raises:
        BadInput: there is no cluster, or the token is missing or wrong (names the variables).
        ClusterError: nothing answers at its address, for PATIENCE_S if it may be temporary.
    """
    access_info = access(project)
    answer = _answer(project, access_info)
    if answer is Answer.BUSY:
        raise ClusterError(f"the cluster at {access_info.dashboard} is too busy to answer: try again later")
    if answer is Answer.SILENT:
        raise ClusterError(f"no Ray cluster answers at {access_info.dashboard}: start one with `raysweep cluster up`")
    if answer is Answer.MISSING:
        raise BadInput(f"the cluster at {access_info.dashboard} requires a token, and none is set: {TOKEN_FIX}")
    if answer is Answer.WRONG:
        raise BadInput(f"the cluster at {access_info.dashboard} refuses the token of {access_info.source}: {TOKEN_FIX}")
    with _ignoring_ray_variables():
        from ray.job_submission import JobSubmissionClient

        for handler in logging.getLogger("ray").handlers:  # hides messages about the upload of the code
            handler.setLevel(logging.WARNING)
        return JobSubmissionClient(access_info.dashboard, headers=headers(access_info.token))


def _answer(project: Path, access_info: Access) -> Answer:
    """The dashboard's answer; waits while it may be temporary."""

    def notify(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            print(f"{access_info.dashboard} does not answer yet: waiting {PATIENCE_S:g} s", file=sys.stderr, flush=True)

    retry = Retrying(
        retry=retry_if_result(lambda answer: _is_temporary(answer, project)),
        stop=stop_after_delay(PATIENCE_S),
        wait=wait_fixed(0.5),
        before_sleep=notify,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else Answer.SILENT,
    )
    return retry(ask, access_info.dashboard, access_info.token)


def _is_temporary(answer: Answer, project: Path) -> bool:
    """Whether the cluster is busy, or does not answer but will come back by itself.

    It does if its target restarts heads and port forwards; not if only an address is known, which may be wrong.
    """
    if answer is not Answer.SILENT:
        return answer is Answer.BUSY
    own = lifecycle.read(project)
    return own is not None and targets.load(own.target).lasting


def storage(project: Path, requested: str | None = None) -> str:
    """The storage of the results: the requested one, $RAYSWEEP_STORAGE, the cluster's storage, or the folder runs.

    If that is the S3 store of the project's cluster, AWS's variables in this process are set to its address and keys.
    """
    own = lifecycle.read(project)
    recorded = own.storage if own else str((project / "runs").absolute())
    place = requested or os.environ.get(env.RAYSWEEP_STORAGE) or recorded
    if own and own.endpoint and f"{place}/".startswith(f"{own.storage}/"):
        for variable in AWS_KEYS:  # they would take precedence over the file
            os.environ.pop(variable, None)
        os.environ |= environment(own.endpoint, Path(own.credentials_path))
    return place


def _token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the token file {path} cannot be read ({error}): {TOKEN_FIX}") from error
    if not token:
        raise BadInput(f"the token file {path} is empty: {TOKEN_FIX}")
    return token


@contextlib.contextmanager
def _ignoring_ray_variables() -> Iterator[None]:
    """Hides variables that Ray's client prefers to its argument, and keeps it from using proxies for 127.0.0.1."""
    hidden = {variable: os.environ.pop(variable) for variable in ADDRESSES if variable in os.environ}
    direct = [host for host in os.environ.get(env.NO_PROXY, "").split(",") if host]
    os.environ[env.NO_PROXY] = ",".join(dict.fromkeys([*direct, *LOOPBACK]))  # without duplicates on a retry
    try:
        yield
    finally:
        os.environ.update(hidden)
