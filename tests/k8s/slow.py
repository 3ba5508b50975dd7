"""A task that takes two seconds an iteration and saves at each."""

import time

from ray import tune

import raysweep

SPACE = {"x": tune.uniform(0, 1)}
METRIC, MODE, MAX_ITERATIONS = "score", "max", 6
MUTABLE = ("x",)


def train(config):
    state = raysweep.resume() or {"score": 0.0}
    for _ in raysweep.iterations():
        time.sleep(2)
        state = {"score": state["score"] + config["x"]}
        raysweep.report({"score": state["score"]}, state=state)
