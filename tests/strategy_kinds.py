"""One strategy for each kind of scheduler: what runs on every cluster. All of them run in tests/jobs."""

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
)

KINDS = {
    "tpe": FIFOScheduler,
    "asha": AsyncHyperBandScheduler,
    "hyperband": HyperBandScheduler,
    "median_stopping": MedianStoppingRule,
    "pbt": PopulationBasedTraining,
}
ONE_OF_EACH = tuple(KINDS)
