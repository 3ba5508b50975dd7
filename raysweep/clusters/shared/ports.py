"""Checks the ports that a target publishes on this machine's loopback, before anything starts."""

from __future__ import annotations

import contextlib
import socket

import psutil

HOST = "127.0.0.1"


def problems(ports: dict[str, int]) -> list[str]:
    """Problems with requested ports, by flag: not a valid port, in use (and by whom), or requested twice."""
    messages = [problem for flag, port in ports.items() if (problem := _problem(flag, port))]
    flags = list(ports)
    for index, flag in enumerate(flags):
        for other in flags[index + 1 :]:
            if ports[flag] == ports[other]:
                messages.append(f"`{flag}` and `{other}` are both {ports[flag]}: they must differ")
    return messages


def _problem(flag: str, port: int) -> str | None:
    if not 1024 <= port <= 65535:
        return f"`{flag}` {port} is not a port that Ray accepts: choose one of 1024-65535 with {flag}"
    if _is_busy(port):
        return f"`{flag}` {port} is in use{_owner(port)}: free it, or choose another one with {flag}"
    return None


def _is_busy(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _owner(port: int) -> str:
    """` by NAME (pid N)`; empty if this user may not see the owner."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", None) == port
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
