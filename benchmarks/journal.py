"""What a result costs the driver: the journal, the folded state and the checkpoints' bookkeeping.

    python benchmarks/journal.py                      a folder
    python benchmarks/journal.py s3://bucket/prefix   a store, which gets one object a second

Prints milliseconds a result: the median and the 99th percentile of TURNS turns of RESULTS results each.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from typing import Any

from raysweep.history.journal import Journal
from raysweep.history.sweep_state import SweepState
from raysweep.loop.recorder import Recorder
from raysweep.storage import open_storage
from raysweep.trial.session import Report

TURNS, RESULTS = 5, 2000


def turn(url: str, number: int) -> list[float]:
    """Milliseconds of each result."""
    place = open_storage(url).child(f"journal-cost-{number}")
    log = Journal(place, term=1)
    recorder = Recorder(place, log, SweepState(), "loss", "min")
    config: dict[str, Any] = {"lr": 0.1, "width": 64}
    recorder.suggested("00000", config, {})
    spent = []
    for iteration in range(1, RESULTS + 1):
        report = Report(iteration, {"loss": 1.0 / iteration, "accuracy": 0.5, "time_total_s": 1.0}, node="node")
        began = time.perf_counter()
        recorder.reported("00000", report, config)
        spent.append((time.perf_counter() - began) * 1000)
    recorder.close()
    log.close()
    return spent


def main() -> None:
    """Runs the turns, and prints what they took."""
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else folder
        for number in range(TURNS):
            spent = sorted(turn(url, number))
            print(f"median {statistics.median(spent):.4f} ms, 99% {spent[int(len(spent) * 0.99)]:.4f} ms a result")


if __name__ == "__main__":
    main()
