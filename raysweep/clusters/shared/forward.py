"""Ports of a Kubernetes cluster on this machine's loopback: `kubectl port-forward`, restarted whenever it ends.

It ends with the pod behind it. The loops are processes of the cluster (see `processes`), and end with it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from raysweep import env
from raysweep.clusters.shared import processes
from raysweep.clusters.shared.ports import HOST


def start(kubectl: list[str], cluster_id: str, services: dict[str, tuple[int, int]], log: Path) -> None:
    """Forwards to services, unless all of them are forwarded already.

    Args:
        kubectl: the command with context and namespace.
        cluster_id: marks the processes.
        services: name -> port here and port there.
        log: file for kubectl's messages.
    """
    if len(processes.daemons(cluster_id)) == len(services):
        return
    stop(cluster_id)
    for service, (here, there) in services.items():
        once = shlex.join([*kubectl, "port-forward", f"--address={HOST}", f"service/{service}", f"{here}:{there}"])
        detach(f"while :; do {once}; sleep 0.5; done", cluster_id, log)


def detach(script: str, cluster_id: str, log: Path) -> None:
    """Runs a shell script in the background, as a process of the cluster that outlives this one."""
    with log.open("a") as output:
        subprocess.run(
            ["/bin/sh", "-c", f"( {script} ) &"],
            env=os.environ | {env.RAYSWEEP_CLUSTER_ID: cluster_id, env.SPT_NOENV: "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that Ctrl-C in this terminal does not reach it
            check=True,
        )


def stop(cluster_id: str) -> None:
    """Ends the forwards of a cluster."""
    processes.end(cluster_id)
