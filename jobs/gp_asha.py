"""GP + ASHA: a Gaussian process suggests, and what is bad at a rung is stopped.

Choose it for few numeric parameters and dear iterative trials. Do not choose it for many choices (tpe_asha). Optuna's
GP learns from complete trials only: what ASHA stops costs little, and teaches it nothing.

Cost: asha's, and 0.1 to some seconds a suggestion.

Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006; Li et al., MLSys 2020.

    python jobs/gp_asha.py --task digits --samples 30
"""

from dataclasses import dataclass

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler

import raysweep
from raysweep.spec import space


@dataclass(frozen=True)
class Knobs:
    """Optuna's GPSampler and the paper's symbols of ASHA."""

    startup_trials: int = raysweep.knob(5, "Complete trials before the first model.", ge=1)
    grace_period: int = raysweep.knob(1, "r: iterations that every trial is given.", ge=1, le="max_iterations")
    reduction_factor: float = raysweep.knob(3.0, "eta: the best 1/eta of a rung go on, eta times as long.", ge=1.1)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Optuna's GP under one asynchronous bracket."""
    space.check_for_searcher(sweep.space, "GP")

    def sampler(seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.GPSampler(n_startup_trials=knobs.startup_trials, seed=seed)

    return tune.TuneConfig(
        search_alg=raysweep.OptunaSearch(sampler, seed=sweep.seed, points=sweep.points),
        scheduler=ASHAScheduler(
            max_t=sweep.max_iterations,
            grace_period=knobs.grace_period,
            reduction_factor=knobs.reduction_factor,
        ),
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
