"""A forward is begun again when it ends, and ends with its cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep.clusters.shared import forward, processes
from tests.waiting import until


@pytest.fixture
def cluster_id() -> Iterator[str]:
    marker = uuid.uuid4().hex
    yield marker
    forward.stop(marker)


@pytest.fixture
def kubectl(tmp_path: Path) -> list[str]:
    """Writes its arguments down and stays for a moment, as `kubectl port-forward` would."""
    program = tmp_path / "kubectl"
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\nsleep 1\n')
    program.chmod(0o755)
    return [str(program), "--context=kind-x"]


def test_it_is_begun_again_and_ended(tmp_path: Path, kubectl: list[str], cluster_id: str) -> None:
    services = {"head": (18265, 8265), "store": (18333, 8333)}
    calls = tmp_path / "calls"
    forward.start(kubectl, cluster_id, services, tmp_path / "log")
    until(lambda: calls.exists() and len(calls.read_text().splitlines()) >= 6)
    head = "--context=kind-x port-forward --address=127.0.0.1 service/head 18265:8265"
    assert head in calls.read_text().splitlines()
    forward.stop(cluster_id)
    assert not processes.marked(cluster_id)


def test_running_forwards_are_kept_and_an_incomplete_set_is_replaced(
    tmp_path: Path, kubectl: list[str], cluster_id: str
) -> None:
    services = {"head": (18265, 8265), "store": (18333, 8333)}
    forward.start(kubectl, cluster_id, services, tmp_path / "log")
    until(lambda: len(processes.daemons(cluster_id)) == 2)
    before = processes.daemons(cluster_id)
    forward.start(kubectl, cluster_id, services, tmp_path / "log")
    assert processes.daemons(cluster_id) == before
    for process in processes.marked(cluster_id):
        if process.pid == before[0]:
            process.kill()
    # Its kubectl goes on for a moment, on its own.
    until(lambda: len(processes.daemons(cluster_id)) == 1)
    forward.start(kubectl, cluster_id, services, tmp_path / "log")
    until(lambda: len(processes.daemons(cluster_id)) == 2)
