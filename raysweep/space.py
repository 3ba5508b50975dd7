"""One search space for every strategy: what each of them needs is derived from it, or refused by name.

A space is Ray Tune's own: https://docs.ray.io/en/latest/tune/api/search_space.html
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.sample import (
    Categorical,
    Domain,
    Float,
    Function,
    Integer,
    LogUniform,
    Quantized,
    Uniform,
)
from ray.tune.search.variant_generator import parse_spec_vars

from raysweep.errors import BadInput


def domains(space: dict[str, Any]) -> dict[str, Domain]:
    """`a/b` -> domain, for every parameter that is drawn; nested dictionaries are flattened with a slash."""
    return {"/".join(map(str, path)): domain for path, domain in parse_spec_vars(space)[1]}


def grids(space: dict[str, Any]) -> dict[str, list[Any]]:
    """`a/b` -> values, for every parameter given as `tune.grid_search`."""
    return {"/".join(map(str, path)): list(values) for path, values in parse_spec_vars(space)[2]}


def check_for_searcher(space: dict[str, Any], searcher: str) -> None:
    """Refuses what a model-based searcher cannot draw.

    Raises:
        BadInput: with one line a parameter, each named.
    """
    problems = [
        f"`{key}` is a grid_search, and {searcher} draws its own values: make it tune.choice, or use `grid`"
        for key in grids(space)
    ]
    for key, domain in domains(space).items():
        if isinstance(domain, Function):
            problems.append(
                f"`{key}` is a sample_from, which {searcher} cannot draw: use a domain such as tune.uniform"
            )
        elif not isinstance(_scale(domain), Uniform | LogUniform):
            problems.append(f"`{key}` is normally distributed, which {searcher} cannot draw: use tune.uniform")
    if not domains(space) and not problems:
        problems.append(f"the space has nothing to draw, so {searcher} has nothing to search: give a domain")
    if problems:
        raise BadInput(*problems)


def grid(space: dict[str, Any], resolution: int) -> dict[str, Any]:
    """The space with every domain turned into `tune.grid_search`.

    Args:
        space: Ray's domains; choices are taken whole, and integer ranges too unless they exceed `resolution`.
        resolution: points on each continuous axis, evenly spread on its own scale, both ends included;
            0 means that a continuous axis is an error.

    Raises:
        BadInput: for each parameter that has no grid, by name.
    """
    problems: list[str] = []

    def points(key: str, domain: Domain) -> Any:
        if isinstance(domain, Categorical):
            return tune.grid_search(list(domain.categories))
        if not isinstance(domain, Float | Integer) or not isinstance(_scale(domain), Uniform | LogUniform):
            problems.append(f"`{key}` has no grid: make it tune.choice or tune.grid_search")
        elif isinstance(domain, Integer) and (resolution < 2 or domain.upper - domain.lower <= resolution):
            return tune.grid_search(list(range(domain.lower, domain.upper)))
        elif resolution < 2:
            problems.append(
                f"`{key}` is continuous ({domain.lower:g} to {domain.upper:g}): give --resolution N for N points on it,"
                " or make it tune.choice or tune.grid_search"
            )
        else:
            return tune.grid_search(_spread(domain, resolution))
        return None

    result = dict(_map(space, points))
    if problems:
        raise BadInput(*problems)
    return result


def _map(space: dict[str, Any], change: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in space.items():
        path = f"{prefix}{key}"
        if isinstance(value, Domain):
            yield key, change(path, value)
        elif isinstance(value, dict) and "grid_search" not in value:
            yield key, dict(_map(value, change, f"{path}/"))
        else:
            yield key, value


def _scale(domain: Domain) -> Any:
    sampler = domain.get_sampler()
    return sampler.sampler if isinstance(sampler, Quantized) else sampler


def _spread(domain: Any, count: int) -> list[Any]:
    upper = domain.upper - 1 if isinstance(domain, Integer) else domain.upper
    if isinstance(_scale(domain), LogUniform):
        values = np.exp(np.linspace(math.log(domain.lower), math.log(upper), count)).tolist()
    else:
        values = np.linspace(domain.lower, upper, count).tolist()
    if isinstance(domain, Integer):
        return sorted({round(value) for value in values})
    # exp(log(x)) is not x to the last bit; the ends of the axis are.
    return [float(domain.lower), *values[1:-1], float(upper)]


def mutations(space: dict[str, Any], mutable: tuple[str, ...] | None) -> dict[str, Domain]:
    """What population based training may change in a running trial.

    Args:
        space: Ray's domains.
        mutable: the task's MUTABLE; where it has none, every float domain (a learning rate, not a width).

    Raises:
        BadInput: nothing can be changed, or a name of MUTABLE is not drawn in the space.
    """
    drawn = domains(space)
    chosen = mutable if mutable is not None else tuple(k for k, d in drawn.items() if isinstance(d, Float))
    problems = [f"MUTABLE names `{key}`, which the space does not draw" for key in chosen if key not in drawn]
    problems += [f"MUTABLE names `{key}`: a nested parameter cannot be perturbed" for key in chosen if "/" in key]
    if not chosen:
        problems.append("the task has no parameter that may change in a running trial: name some in MUTABLE")
    if problems:
        raise BadInput(*problems)
    return {key: drawn[key] for key in chosen}


def clip(space: dict[str, Any]) -> Any:
    """`config -> config` with every float pulled back into its domain.

    Ray's PBT multiplies by 0.8 or 1.2 whatever the domain says, so a momentum of 0.9 would become 1.08.
    """
    limits = {k: (d.lower, d.upper) for k, d in domains(space).items() if isinstance(d, Float) and "/" not in k}

    def clipped(config: dict[str, Any]) -> dict[str, Any]:
        kept = {k: min(max(config[k], low), high) for k, (low, high) in limits.items() if k in config}
        return {**config, **kept}

    return clipped


def bounds(space: dict[str, Any], mutable: tuple[str, ...] | None) -> dict[str, list[float]]:
    """`[lowest, highest]` of what PB2 may change: it models the parameters as numbers in a box.

    Raises:
        BadInput: a mutable parameter is not a float domain, by name.
    """
    chosen = mutations(space, mutable)
    wrong = [key for key, domain in chosen.items() if not isinstance(domain, Float)]
    if wrong:
        raise BadInput(*(f"`{key}` is not a float domain, and PB2 changes numbers only" for key in wrong))
    return {key: [float(domain.lower), float(domain.upper)] for key, domain in chosen.items()}


def describe(space: dict[str, Any]) -> dict[str, str]:
    """`a/b` -> a line that names the domain and its limits; the same text means the same space."""
    lines = {}
    for key, domain in domains(space).items():
        # A function shows its address, which is another one in the next process.
        limits = "" if isinstance(domain, Function) else f" {domain.domain_str} {type(_scale(domain)).__name__}"
        lines[key] = f"{type(domain).__name__}{limits}"
    lines |= {key: f"grid {values}" for key, values in grids(space).items()}
    return dict(sorted(lines.items()))
