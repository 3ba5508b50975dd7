"""Ports that a target publishes on this machine's loopback: whether they may be had, before anything starts."""

from __future__ import annotations

import contextlib
import socket

import psutil

HOST = "127.0.0.1"


def problems(asked: dict[str, int]) -> list[str]:
    """What is wrong with the ports asked for, by flag: not a port, in use (and by whom), or asked for twice."""
    found = [problem for flag, port in asked.items() if (problem := _wrong_port(flag, port))]
    flags = list(asked)
    for index, flag in enumerate(flags):
        for other in flags[index + 1 :]:
            if asked[flag] == asked[other]:
                found.append(f"`{flag}` and `{other}` are both {asked[flag]}: they must differ")
    return found


def _wrong_port(flag: str, port: int) -> str | None:
    if not 1024 <= port <= 65535:
        return f"`{flag}` {port} is not a port that Ray takes: choose one of 1024-65535 with {flag}"
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
    """` by NAME (pid N)` as far as this user may know."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", None) == port
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
