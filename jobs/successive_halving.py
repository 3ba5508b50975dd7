"""Successive halving: trials run in step, and after each rung only the best 1/eta go on.

Choose it when the budget must be spent exactly as the paper says, or results must not depend on which
worker was faster. Do not choose it when trials differ in speed: each rung waits for its slowest trial (asha
does not).

Cost: each rung costs about as much as the first, samples x grace period. Trials wait paused at a rung, so the task
must save a state. It is Ray's HyperBand with one bracket that holds all trials.

Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016.

    python jobs/successive_halving.py --task digits --samples 9
"""

from dataclasses import dataclass

from ray import tune

import raysweep
from raysweep.ray_private import one_bracket


@dataclass(frozen=True)
class Knobs:
    """The paper's symbols."""

    grace_period: int = raysweep.knob(1, "r: iterations that every trial is given.", ge=1, le="max_iterations")
    reduction_factor: float = raysweep.knob(3.0, "eta: the best 1/eta of a rung go on, eta times as long.", ge=2)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Random draws under one synchronous bracket with rungs at r, r eta, r eta^2, …"""
    sweep.refuse_points("it samples at random and learns from no value", values_only=True)
    search = raysweep.Variants(sweep.space, sweep.points, sweep.seed)
    return tune.TuneConfig(
        search_alg=search,
        scheduler=one_bracket(
            search.total(sweep.samples),
            knobs.grace_period,
            max_t=sweep.max_iterations,
            reduction_factor=knobs.reduction_factor,
        ),
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
