"""PB2: population based bandits. PBT whose new parameters come from a Gaussian process instead of chance.

Choose it instead of pbt for small populations (4 to 10 trials), where random perturbation explores too little. Do not
choose it for parameters that are not numbers.

Cost: pbt's, and a Gaussian process for each exploit. `--samples` is the size of the population.

Parker-Holder et al., Provably Efficient Online Hyperparameter Optimization with Population-Based Bandits,
NeurIPS 2020. https://arxiv.org/abs/2002.02518

    python jobs/pb2.py --task digits --samples 4 --perturbation-interval 2
"""

from dataclasses import dataclass

from ray import tune
from ray.tune.schedulers.pb2 import PB2

import raysweep
from raysweep.spec import mutations


@dataclass(frozen=True)
class Knobs:
    """Ray's arguments, with Ray's defaults but for the interval."""

    perturbation_interval: int = raysweep.knob(
        2, "Iterations between two chances to exploit and explore.", ge=1, le="max_iterations"
    )
    quantile_fraction: float = raysweep.knob(0.25, "The lowest part exploits the highest.", ge=0, le=0.5)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Random draws, then exploit and model-based explore every interval."""
    return tune.TuneConfig(
        scheduler=PB2(
            time_attr="training_iteration",
            perturbation_interval=knobs.perturbation_interval,
            hyperparam_bounds=mutations.bounds(sweep.space, sweep.task.mutable),
            quantile_fraction=knobs.quantile_fraction,
            custom_explore_fn=mutations.inside(sweep.space),
            log_config=False,  # the journal has every exploit
        )
    )


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
