"""What a dead worker costs: the wall of a sweep with one worker killed, beside that of an undisturbed one.

    make cluster-up TARGET=docker
    python benchmarks/failure_tax.py --pairs 3

Each pair runs both arms, in turns first: ASHA on a bowl at half a second an iteration, by `raysweep submit`. A worker's
container is killed at the KILL-th journalled result, and started again by the engine. Prints the seconds of each arm,
their difference, and the iterations that were done twice.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import click

from raysweep.clusters import lifecycle
from raysweep.clusters.shared import s3_keys
from raysweep.history import journal
from raysweep.history.sweep_state import SweepState
from raysweep.storage import open_storage

KILL = 12
TASK = """from tasks.quadratic import MAX_ITERATIONS, METRIC, MODE, MUTABLE, SPACE, train

SPACE = SPACE | {"delay_s": 0.5}
"""


def containers(project: str) -> list[dict]:
    """The workers, as `docker inspect` has them."""
    labels = [f"--filter=label=com.docker.compose.{key}" for key in (f"project={project}", "service=worker")]
    ids = subprocess.run(
        ["docker", "ps", "--quiet", *labels], capture_output=True, text=True, check=True
    ).stdout.split()
    return json.loads(subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True, check=True).stdout)


def sweep(name: str, kill: bool) -> tuple[float, int]:
    """Seconds from the first suggestion to the last end, and iterations that were done twice."""
    running = lifecycle.read(Path.cwd())
    if running is None or running.target != "docker":
        raise click.UsageError("no docker cluster is up: make cluster-up TARGET=docker")
    os.environ.update(s3_keys.environment(running.endpoint, Path(running.credentials_path)))
    place = open_storage(running.storage).child(name)
    flags = ["--task", "tax", "--name", name, "--samples", "8"]
    with subprocess.Popen(
        [sys.executable, "-m", "raysweep", "submit", "asha", *flags], stdout=subprocess.DEVNULL
    ) as job:
        while kill and job.poll() is None:
            state = SweepState(journal.read(place))
            nodes = {trial.last.node for trial in state.trials.values() if trial.last and not trial.ended}
            victims = [each for each in containers(running.id) if each["Config"]["Hostname"] in nodes]
            if sum(len(trial.results) for trial in state.trials.values()) >= KILL and victims:
                os.kill(victims[0]["State"]["Pid"], signal.SIGKILL)
                break
            time.sleep(0.1)
    if job.returncode:
        raise click.ClickException(f"{name} ended with {job.returncode}")
    events = journal.read(place)
    results = Counter((event["trial"], event["iteration"]) for event in events if event["type"] == "result")
    times = [event["time"] for event in events if event["type"] in ("suggest", "complete")]
    return max(times) - min(times), results.total() - len(results)


@click.command(help=__doc__)
@click.option("--pairs", default=3, show_default=True, help="Pairs of an undisturbed and a disturbed sweep.")
def main(pairs: int) -> None:
    """Runs the pairs, and prints what they took."""
    task = Path("tasks/tax.py")
    task.write_text(TASK)
    stamp, taxes = time.strftime("%H%M%S"), []
    try:
        for pair in range(pairs):
            seconds = {}
            for kill in (pair % 2 == 1, pair % 2 == 0):
                seconds[kill], twice = sweep(f"tax-{stamp}-{pair}-{'killed' if kill else 'calm'}", kill)
                print(f"{'killed' if kill else 'calm':6} {seconds[kill]:6.1f} s, {twice} iterations twice", flush=True)
            taxes.append(seconds[True] - seconds[False])
    finally:
        task.unlink()
    print(f"tax: {statistics.median(taxes):.1f} s ({min(taxes):.1f} to {max(taxes):.1f})")


if __name__ == "__main__":
    main()
