"""Ray's domains of numbers in Optuna's terms: the same bounds, scale and steps."""

import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from ray import tune

from raysweep.spec.distributions import number_distribution


@pytest.mark.parametrize(
    ("domain", "distribution"),
    [
        (tune.uniform(0, 1), FloatDistribution(0, 1)),
        (tune.loguniform(1e-4, 1), FloatDistribution(1e-4, 1, log=True)),
        (tune.quniform(0.2, 1, 0.1), FloatDistribution(0.2, 1, step=0.1)),
        (tune.qloguniform(0.1, 1, 0.1), FloatDistribution(0.1, 1, log=True)),
        (tune.randint(1, 9), IntDistribution(1, 8)),
        (tune.qrandint(2, 8, 2), IntDistribution(2, 8, step=2)),
        (tune.lograndint(1, 100), IntDistribution(1, 99, log=True)),
    ],
    ids=repr,
)
def test_a_domain_keeps_its_bounds_scale_and_steps(domain, distribution):
    assert number_distribution(domain) == distribution


@pytest.mark.parametrize(
    ("domain", "what"),
    [
        (tune.randn(), "Float with _Normal"),
        (tune.qrandn(0, 1, 0.5), "Float with _Normal"),
        (tune.choice([1, 2]), "Categorical with _Uniform"),
        (tune.sample_from(lambda _: 1), "Function with _CallSampler"),
    ],
    ids=repr,
)
def test_what_optuna_does_not_have_is_named(domain, what):
    with pytest.raises(TypeError, match=f"^{what}$"):
        number_distribution(domain)
