"""Ray for a job: the cluster that it runs in, or a private one on this machine.

The private one is as closed as the clusters that the kit starts: token auth, ports on loopback only.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from ray._private import ray_constants
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._private.utils import get_num_cpus
from ray._raylet import AuthenticationTokenLoader, Config, GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError

if TYPE_CHECKING:
    from raysweep.flags import Flags

ANSWER_SECONDS = 3.0


def running() -> bool:
    """Whether there is a cluster to connect to: this process has joined one, or runs as its job."""
    return bool(ray.is_initialized() or os.environ.get("RAY_ADDRESS"))


def connect() -> list[str]:
    """Joins the cluster of RAY_ADDRESS, unless this process has joined one; what is wrong if it cannot.

    Ray itself tries twenty times to get in with a wrong token, and waits without end where nothing listens.
    """
    if ray.is_initialized():
        return []
    if problems := _refusal(os.environ["RAY_ADDRESS"]):
        return problems
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
    try:
        ensure_token_if_auth_enabled(None, create_token_if_missing=False)  # without one, GcsClient aborts
        GcsClient(address=address)
    except AuthenticationError:
        return [f"`RAY_ADDRESS={address}`: the cluster refuses this process's token: {_token_fix()}"]
    return []


def _token_fix() -> str:
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return "set RAY_AUTH_MODE to token, and RAY_AUTH_TOKEN_PATH to the cluster's token file"
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN is another one; correct it, or unset it and set RAY_AUTH_TOKEN_PATH"
    return (
        f"set RAY_AUTH_TOKEN_PATH, now {os.environ.get('RAY_AUTH_TOKEN_PATH') or 'unset'}, to the cluster's token file"
    )


def start() -> None:
    """Starts a private Ray on this machine for the time of this process."""
    # A file, not RAY_AUTH_TOKEN: the environment of a trial must not hold the token.
    # Ray opens its own folder, with logs and sockets, to everyone: it lies in one that is closed.
    # Not in TMPDIR: the path of a socket in it may have 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="raysweep-", dir="/tmp"))
    atexit.register(_end, folder)
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    # "No clusters", which is Ray's way on Windows and macOS, is what binds every port to 127.0.0.1.
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    # Ray has read its environment when it was imported: both are read again.
    ray_constants.ENABLE_RAY_CLUSTER = False
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING, _temp_dir=str(folder / "ray"))


def _end(folder: Path) -> None:
    ray.shutdown()  # its own, at the end of the process, comes after this
    shutil.rmtree(folder, ignore_errors=True)


def check_machine(flags: Flags) -> list[str]:
    """What a private Ray on this machine can never give."""
    have = {
        "CPU": get_num_cpus(override_docker_cpu_warning=True),  # as Ray counts, which knows of cgroups
        "GPU": NvidiaGPUAcceleratorManager.get_current_node_num_accelerators(),
    }
    wanted = {"CPU": flags.cpus_per_trial, "GPU": flags.gpus_per_trial}
    return [
        f"`--{kind.lower()}s-per-trial {wanted[kind]:g}`: this machine has {have[kind]:g} {kind}: ask for at most that"
        for kind in have
        if wanted[kind] > have[kind]
    ]
