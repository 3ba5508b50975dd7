"""A sweep of real processes, watched while it runs."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

from ray import tune
from rich.console import Console

import raysweep
from raysweep.history import live
from raysweep.storage import open_storage
from raysweep.viewing.watch import Watch
from tests.waiting import until


def shown(storage: str) -> str:
    """One frame of it, each run of blanks as one."""
    out = io.StringIO()
    assert Watch("s", storage, Console(file=out, width=200)).once() == 0
    return " ".join(out.getvalue().split())


def test_places_nodes_and_trials_are_those_of_the_running_sweep(private_ray, storage: str, tmp_path: Path) -> None:
    place, go, seen = open_storage(storage).child("s"), str(tmp_path / "go"), list[str]()

    def train(config: dict[str, float]) -> None:
        while config["x"] > 0.5 and not Path(go).exists():
            time.sleep(0.05)
        raysweep.report({"loss": config["x"]})

    def look() -> None:
        try:
            until(lambda: (told := live.read(place)) and told.busy and told.seconds_left is not None, "an estimate")
            seen.append(shown(storage))
        finally:
            Path(go).touch()

    watching = threading.Thread(target=look)
    watching.start()
    points = [{"x": 0.25}, {"x": 0.75}]
    space, more = {"x": tune.uniform(0.0, 1.0)}, {"metric": "loss", "mode": "min", "samples": 3, "max_iterations": 1}
    raysweep.run("random_search", train, space, storage=storage, name="s", points=points, concurrency=1, **more)
    watching.join()
    assert "1 of 3 ended · 1 finished · 1 pending" in seen[0]
    assert "best loss 0.25, trial 00000, iteration 1 x=0.25" in seen[0]
    assert "1 of 1 busy on 1 node" in seen[0]
    assert "ETA --:--" not in seen[0]
    assert not place.exists(live.NAME)
    assert "s · random_search · train · ended" in shown(storage)
    assert "3 of 3 ended · 3 finished" in shown(storage)
