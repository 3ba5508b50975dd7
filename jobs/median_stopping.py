"""Median stopping: a trial ends when its best result is worse than the median of the others' averages.

Choose it as a mild rule that needs no rungs and seldom stops a trial wrongly: in docs/which-strategy.md it is sooner
than random_search in 11 of 12 rows, up to 1.74 times. Do not choose it to save most of the cost: it stops about half
of the trials, asha nine in ten.

Cost: about half of random_search. The first trials always run on, until there is a median to compare with.

Golovin et al., Google Vizier: A Service for Black-Box Optimization, KDD 2017.

    python jobs/median_stopping.py --task digits --samples 20 --grace-period 2
"""

from dataclasses import dataclass

from ray import tune
from ray.tune.schedulers import MedianStoppingRule

import raysweep


@dataclass(frozen=True)
class Knobs:
    """When the rule begins to apply."""

    grace_period: int = raysweep.knob(1, "Iterations that every trial is given.", ge=1, le="max_iterations")
    min_samples: int = raysweep.knob(3, "Trials needed for a median.", ge=1)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Random draws under the median rule."""
    return tune.TuneConfig(
        scheduler=MedianStoppingRule(
            time_attr="training_iteration",
            grace_period=knobs.grace_period,
            min_samples_required=knobs.min_samples,
        )
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
