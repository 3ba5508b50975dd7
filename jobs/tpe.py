"""TPE: the tree-structured Parzen estimator models good and bad configurations, and draws where good ones are likely.

Choose it for dear trials, mixed parameters (choices beside numbers) and 30 to some hundred samples. Do not choose
it for a handful of samples: the first ones are random; nor when bad trials could be stopped early (tpe_asha).

Cost: samples x iterations, each suggestion some milliseconds. Trials at the same time know nothing of each
other's results; the constant liar keeps them from trying the same place.

Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011. Watanabe, https://arxiv.org/abs/2304.11127

    python jobs/tpe.py --task digits --samples 30 --startup-trials 10
"""

from dataclasses import dataclass

import optuna
from ray import tune

import raysweep
from raysweep.spec import space


@dataclass(frozen=True)
class Knobs:
    """Optuna's TPESampler."""

    startup_trials: int = raysweep.knob(10, "Random trials before the first model.", ge=1)
    candidates: int = raysweep.knob(24, "n_EI: candidates drawn for each suggestion.", ge=1, le=10_000)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Optuna's TPE without a scheduler."""
    space.check_for_searcher(sweep.space, "TPE")

    def sampler(seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(
            n_startup_trials=knobs.startup_trials,
            n_ei_candidates=knobs.candidates,
            multivariate=True,
            constant_liar=True,
            seed=seed,
        )

    return tune.TuneConfig(search_alg=raysweep.OptunaSearch(sampler, seed=sweep.seed, points=sweep.points))


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
