"""How long the page of a large sweep takes, and how large it is: read from a folder, made, written.

    python benchmarks/report.py --trials 1000 --iterations 100

The page is made in a process of its own, by the command that users call; its imports are part of the time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
WRITE = """
import sys
from raysweep.storage import FolderStorage
from tests.reporting.sweeps import large
large(FolderStorage(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
"""


@click.command()
@click.option("--trials", default=1000, show_default=True)
@click.option("--iterations", default=100, show_default=True)
@click.option("--turns", default=3, show_default=True)
def main(trials: int, iterations: int, turns: int) -> None:
    """Print seconds and megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "digits-run"
        subprocess.run([sys.executable, "-c", WRITE, place, str(trials), str(iterations)], cwd=ROOT, check=True)
        for _ in range(turns):
            began = time.perf_counter()
            command = [sys.executable, "-m", "raysweep", "report", "digits-run", "--storage", folder]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            size = (place / "report.html").stat().st_size
            click.echo(f"{trials} trials x {iterations}: {time.perf_counter() - began:.1f} s, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
