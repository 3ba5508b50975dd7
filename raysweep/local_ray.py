"""Ray for a job: the cluster that it runs in, or a private one on this machine.

The private one is as closed as the clusters that the kit starts: token auth, ports on loopback only.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from ray._private import ray_constants
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from raysweep.flags import Flags


def running() -> bool:
    """Whether there is a cluster to connect to: this process has joined one, or runs as its job."""
    return bool(ray.is_initialized() or os.environ.get("RAY_ADDRESS"))


def connect() -> bool:
    """Joins the cluster of RAY_ADDRESS, unless this process has joined one; True.

    Raises:
        RuntimeError: Ray's own, when the cluster refuses or does not answer.
    """
    if not ray.is_initialized():
        ray.init(logging_level=logging.WARNING, log_to_driver=True)
    return True


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
        "CPU": os.cpu_count() or 1,
        "GPU": NvidiaGPUAcceleratorManager.get_current_node_num_accelerators(),
    }
    wanted = {"CPU": flags.cpus_per_trial, "GPU": flags.gpus_per_trial}
    return [
        f"`--{kind.lower()}s-per-trial {wanted[kind]:g}`: this machine has {have[kind]} {kind}: ask for at most that"
        for kind in have
        if wanted[kind] > have[kind]
    ]
