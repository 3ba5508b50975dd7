"""GP: Bayesian optimisation with a Gaussian process, the most from the fewest trials.

Choose it for very dear trials, few numeric parameters (up to about ten) and at most some hundred samples. Do not
choose it for many choices (tpe), or for thousands of trials: its cost grows with the cube of their number.

Cost: samples x iterations, each suggestion 0.1 to some seconds.

Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006; Optuna's GPSampler (Matern 5/2, log EI).

    python jobs/gp.py --task digits --samples 20 --startup-trials 8
"""

from dataclasses import dataclass

import optuna
from ray import tune

import raysweep
from raysweep.spec import space


@dataclass(frozen=True)
class Knobs:
    """Optuna's GPSampler."""

    startup_trials: int = raysweep.knob(10, "Random trials before the first model.", ge=1)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Optuna's GP without a scheduler."""
    space.check_for_searcher(sweep.space, "GP")

    def sampler(seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.GPSampler(n_startup_trials=knobs.startup_trials, seed=seed)

    return tune.TuneConfig(search_alg=raysweep.OptunaSearch(sampler, seed=sweep.seed, points=sweep.points))


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
