"""CMA-ES: an evolution strategy that adapts the covariance of its draws.

Choose it for continuous parameters that depend on each other, and many cheap trials (hundreds, in generations).
Do not choose it for choices, which it draws at random, or for few trials: the first generation learns nothing.

Cost: samples x iterations. A generation should fit the cluster: set --concurrency to about the population.

Hansen & Ostermeier, Completely Derandomized Self-Adaptation in Evolution Strategies, Evol. Comput. 9 (2001).

    python jobs/cma_es.py --task digits --samples 60
"""

from dataclasses import dataclass

import optuna
from ray import tune

import raysweep
from raysweep.spec import space


@dataclass(frozen=True)
class Knobs:
    """Optuna's CmaEsSampler."""

    startup_trials: int = raysweep.knob(1, "Random trials before the first generation.", ge=1)
    population: int = raysweep.knob(0, "lambda: trials of a generation; 0: 4 + 3 ln(dimensions).", ge=4, le=10_000)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Optuna's CMA-ES without a scheduler."""
    space.check_for_searcher(sweep.space, "CMA-ES")

    def sampler(seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.CmaEsSampler(
            n_startup_trials=knobs.startup_trials,
            popsize=knobs.population or None,
            warn_independent_sampling=False,
            seed=seed,
        )

    return tune.TuneConfig(search_alg=raysweep.OptunaSearch(sampler, seed=sweep.seed, points=sweep.points))


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
