"""Successive halving: trials run in step, and after each rung only the best 1/eta go on.

Choose it when the budget must be spent exactly as the paper says, or results must not depend on which
worker was faster. Do not choose it when trials differ in speed: each rung waits for its slowest trial (asha
does not).

Cost: each rung costs about as much as the first, samples x grace period. Trials wait paused at a rung, so the task
must save a state. It is Ray's HyperBand with one bracket that holds all trials.

Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016.

    python jobs/successive_halving.py --task digits --samples 9
"""

import math
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.schedulers import HyperBandScheduler

import raysweep


@dataclass(frozen=True)
class Knobs:
    """The paper's symbols."""

    grace_period: int = raysweep.knob(1, "r: iterations that every trial is given.")
    reduction_factor: float = raysweep.knob(3.0, "eta: the best 1/eta of a rung go on, eta times as long.")


class OneBracket(HyperBandScheduler):
    """Ray's HyperBand with a single bracket that holds all trials, instead of several of fixed sizes."""

    def __init__(self, samples: int, grace_period: int, max_t: int, reduction_factor: float) -> None:
        super().__init__(max_t=max_t, reduction_factor=reduction_factor)
        self._s_max_1 = 1
        self._get_n0 = lambda s: samples
        self._get_r0 = lambda s: grace_period
        self._halvings = math.ceil(math.log(max_t / grace_period, reduction_factor))

    def _create_bracket(self, s: int) -> Any:
        return super()._create_bracket(self._halvings)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Random draws under one synchronous bracket with rungs at r, r eta, r eta^2, …"""
    return tune.TuneConfig(
        scheduler=OneBracket(
            sweep.samples,
            knobs.grace_period,
            max_t=sweep.max_iterations,
            reduction_factor=knobs.reduction_factor,
        )
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
