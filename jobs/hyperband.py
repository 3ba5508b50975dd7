"""HyperBand: successive halving in several brackets, from few long trials to many short ones.

Choose it when you do not know how early a trial can be judged: each bracket bets on another grace period.
Do not choose it when trials differ in speed, since a bracket waits for its slowest trial at each rung
(async_hyperband does not), or for a handful of samples: a bracket wants to be filled.

Cost: each bracket spends about max_iterations x log_eta(max_iterations) x its trials at the end. Trials wait
paused at a rung, so the task must save a state.

Li et al., Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization, JMLR 18 (2018).

    python jobs/hyperband.py --task digits --samples 20
"""

from dataclasses import dataclass

from ray import tune
from ray.tune.schedulers import HyperBandScheduler

import raysweep


@dataclass(frozen=True)
class Knobs:
    """The paper's symbols, Ray's default."""

    reduction_factor: float = raysweep.knob(3.0, "eta: the best 1/eta of a rung go on, eta times as long.", ge=2)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Random draws, dealt to synchronous brackets one after the other."""
    return tune.TuneConfig(
        scheduler=HyperBandScheduler(max_t=sweep.max_iterations, reduction_factor=knobs.reduction_factor)
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
