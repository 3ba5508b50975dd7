"""I3: a serial, seeded sweep that is killed at five random events ends with the table of an undisturbed one."""

from __future__ import annotations

import io
import random

import pandas as pd
import psutil
import pytest

from tests.chaos.cell import ITERATIONS, SAMPLES, Cell
from tests.chaos.conftest import Make
from tests.waiting import until

KILLS = 5
TIMES = ["time_total_s"]
SERIAL = {"grid": ("--samples", "1", "--resolution", "2")}  # 2 x 2 x the 3 choices of the task


def table(cell: Cell) -> str:
    """trials.csv, byte for byte, without the seconds."""
    text = cell.place.get("trials.csv").decode()
    return pd.read_csv(io.StringIO(text), dtype=str).drop(columns=TIMES).to_csv(index=False)


def run(cell: Cell, kills: list[int]) -> Cell:
    """From beginning to end, with a kill of the driver when the journal has so many events."""
    cell.start()
    for events in kills:
        until(lambda count=events: len(cell.events) >= count or cell.process.poll() is not None, f"{events} events")
        victim = cell.driver
        victim.kill()
        psutil.wait_procs([victim])
    return cell.finish()


@pytest.mark.fault("serial-killed")
@pytest.mark.parametrize("strategy", ["grid", "random_search", "tpe", "asha"])
def test_a_serial_sweep_does_not_notice_five_kills(make: Make, strategy: str) -> None:
    flags = ("--concurrency", "1", *SERIAL.get(strategy, ()))
    undisturbed = run(make(strategy, flags=flags, pace=0.05), [])
    total = len(undisturbed.events)
    draw = random.Random(f"{strategy} {SAMPLES} {ITERATIONS}")
    kills = sorted(draw.sample(range(3, int(total * 0.9)), KILLS))
    disturbed = run(make(strategy, flags=flags, pace=0.05), kills)
    assert (undisturbed.code, disturbed.code) == (0, 0), disturbed.log
    assert disturbed.log.count("SIGKILL ended the driver") == KILLS
    assert table(disturbed) == table(undisturbed)
