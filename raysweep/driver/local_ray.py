"""Ray for a job: the cluster that it runs in, or a private one on this machine.

The private one is as closed as the clusters that the kit starts: token auth, ports on loopback only.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import ray

from raysweep import env, ray_private

if TYPE_CHECKING:
    from raysweep.spec.flags import Flags

ANSWER_SECONDS = 3.0


def running() -> bool:
    """Whether there is a cluster to connect to: this process has joined one, or runs as its job."""
    return bool(ray.is_initialized() or os.environ.get(env.RAY_ADDRESS))


def connect() -> list[str]:
    """Joins the cluster of RAY_ADDRESS, unless this process has joined one; what is wrong if it cannot.

    Ray itself tries twenty times to get in with a wrong token, and waits without end where nothing listens.
    """
    if ray.is_initialized():
        return []
    if problems := _refusal(os.environ[env.RAY_ADDRESS]):
        return problems
    with ray_private.quiet():
        ray.init(logging_level=logging.WARNING, log_to_driver=True)
    return []


def _refusal(address: str) -> list[str]:
    """Why a cluster at host:port does not let this process in; other kinds of addresses are left to Ray."""
    if not (place := re.fullmatch(r"([^:/]+):(\d+)", address)):
        return []
    try:
        socket.create_connection((place[1], int(place[2])), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        return [f"`RAY_ADDRESS={address}`: no Ray cluster answers there ({error}): correct it, or unset it"]
    if ray_private.is_refused(address):
        return [f"`RAY_ADDRESS={address}`: the cluster refuses this process's token: {_token_fix()}"]
    return []


def _token_fix() -> str:
    if os.environ.get(env.RAY_AUTH_MODE) != "token":
        return "set RAY_AUTH_MODE to token, and RAY_AUTH_TOKEN_PATH to the cluster's token file"
    if os.environ.get(env.RAY_AUTH_TOKEN):
        return "RAY_AUTH_TOKEN is another one; correct it, or unset it and set RAY_AUTH_TOKEN_PATH"
    path = os.environ.get(env.RAY_AUTH_TOKEN_PATH) or "unset"
    return f"set RAY_AUTH_TOKEN_PATH, now {path}, to the cluster's token file"


def start() -> None:
    """Starts a private Ray on this machine for the time of this process."""
    # A file, not RAY_AUTH_TOKEN: the environment of a trial must not hold the token.
    # Ray opens its own folder, with logs and sockets, to everyone: it lies in one that is closed.
    # Not in TMPDIR: the path of a socket in it may have 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="raysweep-", dir="/tmp"))
    atexit.register(_end, folder)
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(secrets.token_hex(32))
    auth = {env.RAY_AUTH_MODE: "token", env.RAY_AUTH_TOKEN_PATH: str(folder / "token")}
    with environment(auth), ray_private.loopback_only(), ray_private.quiet():
        ray_private.read_auth_again()
        ray.init(
            address="local",
            num_cpus=cpus(),
            include_dashboard=False,
            logging_level=logging.WARNING,
            _temp_dir=str(folder / "ray"),
        )


def _end(folder: Path) -> None:
    ray.shutdown()  # its own, at the end of the process, comes after this
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def environment(settings: dict[str, str]) -> Iterator[None]:
    """Variables that Ray reads when it starts, and that are not there afterwards: a notebook may have its own."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def cpus() -> int:
    """The CPUs that a private Ray has: those that this process may use, by its affinity and its cgroup."""
    return int(joblib.cpu_count())


def check_machine(flags: Flags) -> list[str]:
    """What a private Ray on this machine can never give."""
    have = {"CPU": cpus(), "GPU": ray_private.gpus_of_this_machine()}
    wanted = {"CPU": flags.cpus_per_trial, "GPU": flags.gpus_per_trial}
    return [
        f"`--{kind.lower()}s-per-trial {wanted[kind]:g}`: this machine has {have[kind]:g} {kind}: ask for at most that"
        for kind in have
        if wanted[kind] > have[kind]
    ]
