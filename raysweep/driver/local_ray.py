"""Ray for a job: the cluster that it runs in, or a private one on this machine.

The private one is protected like the clusters that this kit starts: token authentication, ports on loopback only.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import psutil
import ray
from tenacity import Retrying, retry_if_exception_message, stop_after_attempt

from raysweep import env, ray_private, temporary
from raysweep.driver import capacity
from raysweep.loop.places import fit

if TYPE_CHECKING:
    from raysweep.spec.sweep import Sweep

ANSWER_SECONDS = 3.0
STARTS = 3  # Ray gives a node 30 s, which is too short on a machine that is busy
TOO_SLOW = "The current node timed out during startup"


def running() -> bool:
    """Whether there is a cluster to connect to: this process has joined one, or runs as its job."""
    return bool(ray.is_initialized() or os.environ.get(env.RAY_ADDRESS))


def connect() -> list[str]:
    """Joins the cluster of RAY_ADDRESS, unless this process has joined one; returns the problems if it cannot.

    Checks the address first, since Ray itself tries a wrong token twenty times, and waits forever if nothing listens.
    """
    if ray.is_initialized():
        return []
    if problems := _refusal(os.environ[env.RAY_ADDRESS]):
        return problems
    with ray_private.quiet():
        ray.init(logging_level=logging.WARNING, log_to_driver=True)
    return []


def _refusal(address: str) -> list[str]:
    """Why a cluster at host:port does not accept this process; Ray checks other kinds of addresses itself."""
    if not (endpoint := re.fullmatch(r"([^:/]+):(\d+)", address)):
        return []
    try:
        socket.create_connection((endpoint[1], int(endpoint[2])), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        return [f"`RAY_ADDRESS={address}`: no Ray cluster answers there ({error}): correct it, or unset it"]
    if ray_private.is_refused(address):
        return [f"`RAY_ADDRESS={address}`: the cluster refuses this process's token: {_token_fix()}"]
    return []


def _token_fix() -> str:
    if os.environ.get(env.RAY_AUTH_MODE) != "token":
        return "set RAY_AUTH_MODE to token, and RAY_AUTH_TOKEN_PATH to the cluster's token file"
    if os.environ.get(env.RAY_AUTH_TOKEN):
        return "RAY_AUTH_TOKEN is a different token; correct it, or unset it and set RAY_AUTH_TOKEN_PATH"
    path = os.environ.get(env.RAY_AUTH_TOKEN_PATH) or "unset"
    return f"set RAY_AUTH_TOKEN_PATH, now {path}, to the cluster's token file"


def start() -> None:
    """Starts a private Ray on this machine, which lasts as long as this process."""
    # The token is in a file, not in RAY_AUTH_TOKEN: the environment of a trial must not contain it.
    # Everyone may read Ray's own folder, with logs and sockets, so it is inside of a private one.
    # That is not in TMPDIR: the path of a socket may have at most 107 bytes.
    folder = temporary.make("ray", Path("/tmp"))
    atexit.register(_stop, folder)
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(secrets.token_hex(32))
    auth = {env.RAY_AUTH_MODE: "token", env.RAY_AUTH_TOKEN_PATH: str(folder / "token")}
    tries = Retrying(retry=retry_if_exception_message(match=TOO_SLOW), stop=stop_after_attempt(STARTS), reraise=True)
    with environment(auth), ray_private.loopback_only(), ray_private.quiet():
        ray_private.read_auth_again()
        tries(_init, folder)


def _init(folder: Path) -> None:
    """Starts the processes of a Ray in this folder; if it fails, none is left."""
    try:
        ray.init(
            address="local",
            num_cpus=cpus(),
            include_dashboard=False,
            logging_level=logging.WARNING,
            _temp_dir=str(folder / "ray"),
        )
    except BaseException:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(str(folder) in word for word in process.cmdline()):
                    process.kill()
        raise


def _stop(folder: Path) -> None:
    ray.shutdown()  # Ray's own exit handler would run only after this one
    temporary.remove(folder)


@contextlib.contextmanager
def environment(settings: dict[str, str]) -> Iterator[None]:
    """Sets variables that Ray reads when it starts, and restores them: a notebook may have its own values."""
    old_values = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        yield
    finally:
        for name, value in old_values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def cpus() -> int:
    """The CPUs of a private Ray: those that this process may use, by its affinity and its cgroup."""
    return int(joblib.cpu_count())


def check_machine(sweep: Sweep) -> list[str]:
    """Problems with trials that ask for more than this machine has."""
    available = {"CPU": cpus(), "GPU": ray_private.gpus_of_this_machine()}
    share = {"CPU": sweep.cpus, "GPU": sweep.gpus}
    problems = [
        f"`--{kind.lower()}s-per-trial {share[kind]:g}`: this machine has {amount:g} {kind}: ask for at most that"
        for kind, amount in available.items()
        if share[kind] > amount
    ]
    room, workers = fit(available, *share.values()), sweep.workers
    if not problems and workers > max(room, 1):  # no resources at all are refused elsewhere
        problems.append(
            f"`--workers-per-trial {workers}`: this machine has room for {room} workers of"
            f" {capacity.describe(*share.values())}: ask for at most that, or for less of each"
        )
    return problems
