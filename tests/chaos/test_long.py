"""A thousand trials, and a kill of the driver after every hundred: the exact set of trials, and a flat memory."""

from __future__ import annotations

import psutil
import pytest

from raysweep.state import SweepState
from tests.chaos.cell import until
from tests.chaos.conftest import Make

TRIALS, STEP = 1000, 100
GROWTH = 1.15  # of the driver's memory, from its second life to its last: the journal's records are in it


@pytest.mark.fault("thousand-trials")
def test_a_thousand_trials_with_a_kill_every_hundred(make: Make) -> None:
    cell = make("random_search", flags=("--samples", str(TRIALS), "--max-iterations", "2"), pace=0.0).start()
    memory = []
    for ended in range(STEP, TRIALS, STEP):
        until(f"{ended} trials", lambda count=ended: cell.count("complete") >= count, 600)
        victim = cell.driver
        memory.append(victim.memory_info().rss / 2**20)
        victim.kill()
        psutil.wait_procs([victim])
    cell.finish()
    state = SweepState(cell.events)
    print(f"driver's memory before each kill, MiB: {', '.join(f'{each:.0f}' for each in memory)}")
    assert cell.code == 0, cell.log[-3000:]
    assert sorted(state.trials) == [f"{number:05d}" for number in range(TRIALS)]
    assert {trial.status for trial in state.trials.values()} == {"finished"}
    assert all(len(trial.results) == 2 for trial in state.trials.values())
    assert memory[-1] < GROWTH * memory[1]
