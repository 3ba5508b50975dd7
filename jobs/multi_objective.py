"""Multi-objective search: the front of trials that no other trial beats in both metrics.

Choose it when a good model must also be fast, small or cheap, and you want to see the trade. Do not choose it when one
number says what you want: every other strategy gets there sooner.

Cost: samples x iterations; no scheduler, since a trial that is bad in one metric may be the best in the other.
best.json holds the Pareto front instead of one trial.

Ozaki et al., Multiobjective Tree-Structured Parzen Estimator, JAIR 73 (2022).

    python jobs/multi_objective.py --task digits --second-metric time_total_s --second-mode min
"""

from dataclasses import dataclass

import optuna
from ray import tune

import raysweep
from raysweep.spec import space


@dataclass(frozen=True)
class Knobs:
    """The metric beside the task's own, and Optuna's TPESampler."""

    second_metric: str = raysweep.knob("time_total_s", "The other metric; seconds of training if not given.")
    second_mode: str = raysweep.knob("min", "max or min of the other metric.", ("max", "min"))
    startup_trials: int = raysweep.knob(10, "Random trials before the first model.", ge=1)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Optuna's multi-objective TPE without a scheduler."""
    space.check_for_searcher(sweep.space, "TPE")
    if knobs.second_metric == sweep.metric:
        raise raysweep.BadInput(f"`--second-metric {sweep.metric}`: is the first metric, too: name another one")
    sweep.refuse_points("a point's known value is one number, and there are two metrics", values_only=True)

    def sampler(seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(n_startup_trials=knobs.startup_trials, multivariate=True, seed=seed)

    return tune.TuneConfig(
        search_alg=raysweep.OptunaSearch(
            sampler,
            seed=sweep.seed,
            points=sweep.points,
            metric=[sweep.metric, knobs.second_metric],
            mode=[sweep.mode, knobs.second_mode],
        )
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
