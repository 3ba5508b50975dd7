"""PBT: population based training. Bad trials take over a good one's weights and perturb its parameters.

Choose it when a parameter should change while a model trains (learning rate, momentum), for long trials, and when
the whole population fits the cluster. Do not choose it to tune an architecture: a checkpoint fits one shape only,
so such parameters are drawn once and inherited.

Cost: samples x iterations, no trial is stopped; the result is a schedule, not one configuration. `--samples` is the
size of the population. What may change is the task's MUTABLE.

Jaderberg et al., Population Based Training of Neural Networks, 2017. https://arxiv.org/abs/1711.09846

    python jobs/pbt.py --task digits --samples 8 --perturbation-interval 2
"""

from dataclasses import dataclass

from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

import raysweep
from raysweep.spec import mutations


@dataclass(frozen=True)
class Knobs:
    """Ray's arguments, with Ray's defaults but for the interval."""

    perturbation_interval: int = raysweep.knob(
        2, "Iterations between two chances to exploit and explore.", ge=1, le="max_iterations"
    )
    quantile_fraction: float = raysweep.knob(0.25, "The lowest part exploits the highest.", ge=0, le=0.5)
    resample_probability: float = raysweep.knob(0.25, "How often explore draws anew instead of perturbing.", ge=0, le=1)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Random draws, then exploit and explore every interval."""
    return tune.TuneConfig(
        scheduler=PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=knobs.perturbation_interval,
            hyperparam_mutations=mutations.mutations(sweep.space, sweep.task.mutable),
            quantile_fraction=knobs.quantile_fraction,
            resample_probability=knobs.resample_probability,
            custom_explore_fn=mutations.inside(sweep.space),
            log_config=False,  # the journal has every exploit
        )
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
