"""Ray's domains of numbers as Optuna's distributions: for the search, and for the study of a sweep that has ended."""

from __future__ import annotations

from optuna.distributions import FloatDistribution, IntDistribution
from ray.tune.search.sample import Domain, Float, Integer, LogUniform, Quantized, Uniform

NumberDistribution = FloatDistribution | IntDistribution


def number_distribution(domain: Domain) -> NumberDistribution:
    """The bounds, scale and steps of a domain.

    Optuna's ranges include the upper bound, Ray's exclude it for integers without steps. Optuna has no steps on a
    logarithmic scale: those of floats are left out, those of integers are refused.

    Raises:
        TypeError: Optuna has no such distribution; says which it is.
        ValueError: Optuna refuses these bounds or steps.
    """
    sampler, q = domain.get_sampler(), None
    if isinstance(sampler, Quantized):
        sampler, q = sampler.sampler, sampler.q
    if not isinstance(domain, Float | Integer) or not isinstance(sampler, Uniform | LogUniform):
        raise TypeError(f"{type(domain).__name__} with {type(sampler).__name__}")
    log_scale = isinstance(sampler, LogUniform)
    if isinstance(domain, Integer):
        highest = domain.upper if q and not log_scale else domain.upper - 1
        return IntDistribution(domain.lower, highest, step=int(q or 1), log=log_scale)
    return FloatDistribution(domain.lower, domain.upper, step=None if log_scale else q, log=log_scale)
