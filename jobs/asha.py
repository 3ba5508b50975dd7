"""ASHA: asynchronous successive halving. A trial is stopped at a rung unless it is among the best 1/eta there.

Choose it first: whenever a trial's early iterations say something about its last one, and for any
number of workers, since nobody waits for anybody. Do not choose it when good models start slowly
(raise the grace period), or when a trial has only one iteration (random_search, tpe). In docs/which-strategy.md it is
up to 2.3 times sooner than random_search on digits, and behind it on Fashion-MNIST, whose first epochs mislead.

Cost: most trials end after the grace period; typically 3-5 times less than random_search for the same samples.
Ray's ASHA stops trials rather than promoting paused ones, so the first trials at a rung always pass it.

Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020. https://arxiv.org/abs/1810.05934

    python jobs/asha.py --task digits --samples 20 --grace-period 1 --reduction-factor 3
"""

from dataclasses import dataclass

from ray import tune
from ray.tune.schedulers import ASHAScheduler

import raysweep


@dataclass(frozen=True)
class Knobs:
    """The paper's symbols."""

    grace_period: int = raysweep.knob(1, "r: iterations that every trial is given.", ge=1, le="max_iterations")
    reduction_factor: float = raysweep.knob(3.0, "eta: the best 1/eta of a rung go on, eta times as long.", ge=1.1)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Random draws under one asynchronous bracket with rungs at r, r eta, r eta^2, …"""
    return tune.TuneConfig(
        scheduler=ASHAScheduler(
            max_t=sweep.max_iterations,
            grace_period=knobs.grace_period,
            reduction_factor=knobs.reduction_factor,
        )
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
