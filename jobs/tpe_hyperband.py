"""TPE + asynchronous HyperBand: a model suggests, several brackets decide how early to stop.

Choose it as tpe_asha when you do not know the right grace period: this is the asynchronous form of BOHB. Do not
choose it for few samples, which the brackets would share out among them.

Cost: between tpe_asha and tpe. Ray's synchronous pair (TuneBOHB) needs packages that no longer build; see
docs/decisions.md.

Falkner et al., BOHB: Robust and Efficient Hyperparameter Optimization at Scale, ICML 2018.

    python jobs/tpe_hyperband.py --task mnist --samples 40 --brackets 2
"""

from dataclasses import dataclass

import optuna
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler

import raysweep
from raysweep.spec import space
from raysweep.spec.sweep import most_brackets


@dataclass(frozen=True)
class Knobs:
    """Optuna's TPESampler and the paper's symbols of HyperBand."""

    startup_trials: int = raysweep.knob(10, "Random trials before the first model.", ge=1)
    grace_period: int = raysweep.knob(
        1, "r: iterations that every trial of the first bracket is given.", ge=1, le="max_iterations"
    )
    reduction_factor: float = raysweep.knob(3.0, "eta: the best 1/eta of a rung go on, eta times as long.", ge=1.1)
    brackets: int = raysweep.knob(2, "s: bracket i spares its trials the first i rungs.", ge=1, le=most_brackets)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Optuna's TPE under several asynchronous brackets."""
    space.check_for_searcher(sweep.space, "TPE")

    def sampler(seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(
            n_startup_trials=knobs.startup_trials, multivariate=True, constant_liar=True, seed=seed
        )

    return tune.TuneConfig(
        search_alg=raysweep.OptunaSearch(sampler, seed=sweep.seed, points=sweep.points),
        scheduler=AsyncHyperBandScheduler(
            max_t=sweep.max_iterations,
            grace_period=knobs.grace_period,
            reduction_factor=knobs.reduction_factor,
            brackets=knobs.brackets,
        ),
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
