"""A bowl in two parameters: no data, no randomness, microseconds an iteration, and a known best.

    python jobs/asha.py --task quadratic

Tuned: the place (x, y), best at (1, -2), and the pace at which a trial comes down to its place in the bowl.
Metric: loss = (x - 1)^2 + (y + 2)^2 + height, where the height begins at 1 and every iteration shrinks it by
the pace. So bad places can be stopped early, and a trial that takes over another one's state (population
based training) keeps the height that the other had reached.

For trying out strategies and clusters. `delay_s`, if the space has it, makes an iteration last that long.
"""

import time
from typing import Any

from ray import tune

import raysweep

SPACE = {
    "x": tune.uniform(-5.0, 5.0),
    "y": tune.uniform(-5.0, 5.0),
    "pace": tune.choice([0.5, 0.7, 0.9]),
}
METRIC, MODE = "loss", "min"
MAX_ITERATIONS = 10
MUTABLE = ("x", "y")


def train(config: dict[str, Any]) -> None:
    """One trial; its state is the height, and the path of all places that led to it."""
    state = raysweep.resume() or {"height": 1.0, "path": []}
    height, path = state["height"], list(state["path"])
    x, y = config["x"], config["y"]

    for iteration in raysweep.iterations():
        if "delay_s" in config:
            time.sleep(config["delay_s"])
        height *= config["pace"]
        path.append((iteration, x, y))
        raysweep.report({"loss": (x - 1) ** 2 + (y + 2) ** 2 + height}, state={"height": height, "path": path})
