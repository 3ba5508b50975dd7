"""What a result costs the driver: the journal, the folded state and the checkpoints' bookkeeping.

    python benchmarks/journal.py                      a folder
    python benchmarks/journal.py s3://bucket/prefix   a store, which gets one object a second

Prints milliseconds a result: the median and the 99th percentile of TURNS turns of RESULTS results each. Then whether
the storage keeps up with so many results a second, and how long a resume reads them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from typing import Any

from raysweep.history import journal
from raysweep.history.journal import Journal
from raysweep.history.sweep_state import SweepState
from raysweep.loop.recorder import Recorder
from raysweep.storage import open_storage
from raysweep.trial.session import Report

TURNS, RESULTS = 5, 2000
RATES, SECONDS = (1300, 5000, 12000), 15.0  # results a second, for so long


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


def paced(url: str, rate: int) -> str:
    """What becomes of so many results a second."""
    place = open_storage(url).child(f"journal-rate-{rate}")
    log, began = Journal(place, term=1), time.monotonic()
    while (passed := time.monotonic() - began) < SECONDS:
        while log.seq < passed * rate:
            metrics = {"loss": 1.0 / (log.seq + 1), "accuracy": 0.5, "time_total_s": 1.0, "time_this_iter_s": 0.1}
            log.append("result", trial=f"{log.seq % 1000:05d}", iteration=1, metrics=metrics, node="node")
        time.sleep(0.01)
    written = log.seq / (time.monotonic() - began)
    ended = time.monotonic()
    assert log.stored(log.seq)
    behind = time.monotonic() - ended
    log.close()
    began = time.monotonic()
    events, objects = len(journal.read(place)), len(place.list("journal/"))
    return (
        f"{rate} results a second: {written:.0f} were written, the last stored {behind:.2f} s after the end,"
        f" {objects} objects; {events} events read in {time.monotonic() - began:.2f} s"
    )


def main() -> None:
    """Runs the turns, and prints what they took."""
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else folder
        for number in range(TURNS):
            spent = sorted(turn(url, number))
            print(f"median {statistics.median(spent):.4f} ms, 99% {spent[int(len(spent) * 0.99)]:.4f} ms a result")
        for rate in RATES:
            print(paced(url, rate), flush=True)


if __name__ == "__main__":
    main()
