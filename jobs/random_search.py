"""Random search: independent draws from the space, each trained to the end.

Choose it as the baseline that every other strategy has to beat, when trials are cheap, or when the
cluster can run all of them at once. Do not choose it when most of a trial's cost could be saved by
stopping the bad ones (asha) or when trials are few and dear (tpe, gp).

Cost: samples x iterations. The seed fixes the draws.

Bergstra & Bengio, Random Search for Hyper-Parameter Optimization, JMLR 13 (2012).

    python jobs/random_search.py --task digits --samples 20
"""

from ray import tune

import raysweep
from raysweep.spec.sweep import NoKnobs


def tune_config(sweep: raysweep.Sweep, knobs: NoKnobs) -> tune.TuneConfig:
    """Nothing to set: Ray draws at random and runs first in, first out."""
    return tune.TuneConfig()


if __name__ == "__main__":
    raysweep.main(tune_config)
