"""Grid search: every combination of the values of a space, once.

Choose it for few parameters with few values each, when every combination must be seen (a table in a paper,
the effect of one switch). Do not choose it to find a good model: at equal cost random search looks at more
values of each parameter that matters.

Cost: the product of the numbers of values; each trial is trained to the end. `--samples` repeats the grid.
A continuous domain has no grid of its own: `--resolution 5` puts five points on each, ends included.

Bergstra & Bengio, Random Search for Hyper-Parameter Optimization, JMLR 13 (2012).

    python jobs/grid.py --task svm
"""

from dataclasses import dataclass

from ray import tune

import raysweep
from raysweep.spec import space


@dataclass(frozen=True)
class Knobs:
    """What grid search lets you choose."""

    resolution: int = raysweep.knob(0, "Points on each continuous axis, evenly on its own scale.", ge=2, le=10_000)


def tune_config(sweep: raysweep.Sweep, knobs: Knobs) -> tune.TuneConfig:
    """Every combination, in the order of the space; no scheduler."""
    sweep.refuse_points("a grid says itself which points it has")
    return tune.TuneConfig(search_alg=raysweep.Variants(space.grid(sweep.space, knobs.resolution), seed=sweep.seed))


if __name__ == "__main__":
    raysweep.main(tune_config, Knobs)
