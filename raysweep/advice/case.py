"""What the choice of a strategy depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Float, Integer

from raysweep.spec.configuration import has_domains, parameters
from raysweep.spec.space import steps


@dataclass(frozen=True)
class Case:
    """A task, and what may be spent on it.

    Attributes:
        trials: complete trials that the budget has room for.
        workers: trials at the same time.
        iterations: of a complete trial.
        numbers: parameters that are drawn and are numbers.
        choices: parameters that are drawn and are choices.
        combinations: of all values, if each parameter has finitely many; else None.
        conditional: whether a choice contains domains, so that a parameter exists in some trials only.
        saves: whether the training function saves a state; None if that cannot be known.
        mutable: whether some parameter may change while a model trains.
        metrics: how many are optimised.
        best_only: whether only the final quality counts, and not how soon it is reached.
    """

    trials: float
    workers: int
    iterations: int
    numbers: int = 2
    choices: int = 0
    combinations: int | None = None
    conditional: bool = False
    saves: bool | None = True
    mutable: bool = False
    metrics: int = 1
    best_only: bool = False

    @property
    def rounds(self) -> float:
        """Complete trials that each worker has time for."""
        return self.trials / self.workers


def of_space(space: dict[str, Any]) -> dict[str, Any]:
    """What of a case a search space says: the arguments `numbers`, `choices`, `combinations` and `conditional`."""
    domains = list(parameters(space).values())
    sizes = [_values(domain) for domain in domains]
    known = [size for size in sizes if size is not None]
    return {
        "numbers": sum(isinstance(domain, Float | Integer) for domain in domains),
        "choices": sum(isinstance(domain, Categorical) or domain.is_grid() for domain in domains),
        "combinations": math.prod(known) if len(known) == len(sizes) else None,
        "conditional": any(map(_has_conditions, domains)),
    }


def _values(domain: Domain) -> int | None:
    """How many values a parameter has; None if there is no end of them."""
    if hasattr(domain, "categories"):
        return None if _has_conditions(domain) else len(domain.categories)
    found = steps(domain)
    return None if found is None else len(found)


def _has_conditions(domain: Domain) -> bool:
    return hasattr(domain, "categories") and any(map(has_domains, domain.categories))
