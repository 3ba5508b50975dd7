"""Asynchronous HyperBand: ASHA in several brackets, each with another grace period.

Choose it when you do not know how early a trial can be judged: part of the trials is spared the first rungs.
Do not choose it when you know the right grace period: asha spends everything on that one.

Cost: between asha and random_search; nobody waits for anybody. Brackets are drawn at random, the more
aggressive ones more often, as Ray does it.

Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020. https://arxiv.org/abs/1810.05934

    python jobs/async_hyperband.py --task digits --samples 20 --brackets 2
"""

from dataclasses import dataclass

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

import raysweep
from raysweep.spec.sweep import most_brackets


@dataclass(frozen=True)
class Knobs:
    """The paper's symbols."""

    grace_period: int = raysweep.knob(
        1, "r: iterations that every trial of the first bracket is given.", ge=1, le="max_iterations"
    )
    reduction_factor: float = raysweep.knob(3.0, "eta: the best 1/eta of a rung go on, eta times as long.", ge=1.1)
    brackets: int = raysweep.knob(2, "s: bracket i spares its trials the first i rungs.", ge=1, le=most_brackets)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Random draws, dealt to asynchronous brackets."""
    return tune.TuneConfig(
        scheduler=AsyncHyperBandScheduler(
            max_t=sweep.max_iterations,
            grace_period=knobs.grace_period,
            reduction_factor=knobs.reduction_factor,
            brackets=knobs.brackets,
        )
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
