"""How the workers of a trial find each other: by the variables that torchrun sets, so that `init_process_group` works.

A process may run one trial after the other. Each of them has a port of its own, which nothing of an earlier one holds.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import psutil
import ray

from raysweep import env
from raysweep.trial.run import Seat


class Worker:
    """A process as one of a trial's workers."""

    def __init__(self) -> None:
        self._port: socket.socket | None = None
        self._before: dict[str, str | None] = {}

    def meeting_point(self) -> tuple[str, int]:
        """An address of this node and a port, which is kept free until `leave`: no other trial gets it.

        A socket that is bound and does not listen keeps others from getting the port; a server that reuses addresses,
        as torch's does, may still listen on it. Torch listens on all addresses, so the port is kept on all of them.
        """
        address = ray.util.get_node_ip_address()
        self._close_port()
        self._port = _bound(socket.AF_INET6 if ":" in address else socket.AF_INET)
        return address, self._port.getsockname()[1]

    def take(self, seat: Seat, meets_at: tuple[str, int]) -> None:
        """Sets the variables for the run that begins."""
        variables = _variables(seat, meets_at)
        self._before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    def leave(self) -> None:
        """The run is over: the variables are as they were."""
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self._before = {}
        self._close_port()

    def _close_port(self) -> None:
        if self._port is not None:
            self._port.close()
        self._port = None

    def forget_group(self) -> None:
        """Destroys a process group that an earlier run has left. Only now: another worker may have still used it."""
        distributed = sys.modules.get("torch.distributed")  # if nobody has imported it, there is none
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def process_group() -> Any:
    """The module torch.distributed, with the group of the trial's workers; made if the function has not done so."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed


def _bound(family: socket.AddressFamily) -> socket.socket:
    port = socket.socket(family)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port.bind(("", 0))
    return port


def _variables(seat: Seat, meets_at: tuple[str, int]) -> dict[str, str]:
    address, port = meets_at
    variables = {
        env.MASTER_ADDR: address,
        env.MASTER_PORT: str(port),
        env.RANK: str(seat.rank),
        env.WORLD_SIZE: str(seat.world_size),
        env.LOCAL_RANK: str(seat.local_rank),
        env.LOCAL_WORLD_SIZE: str(seat.local_world_size),
        env.NODE_RANK: str(seat.node_rank),
    }
    if seat.gpus:  # so that `cuda:LOCAL_RANK` is a worker's own, and NCCL reaches the others without a network
        variables[env.CUDA_VISIBLE_DEVICES] = ",".join(dict.fromkeys(seat.gpus))
    if env.GLOO_SOCKET_IFNAME not in os.environ and (interface := _interface(ray.util.get_node_ip_address())):
        variables[env.GLOO_SOCKET_IFNAME] = interface
    return variables


def _interface(address: str) -> str | None:
    """The network interface with this address. Gloo would take that of the machine's name, which may be loopback."""
    found = (name for name, each in psutil.net_if_addrs().items() if any(a.address == address for a in each))
    return next(found, None)
