"""One search space for every strategy: what each of them needs is derived from it, or refused by name.

A space is Ray Tune's own: https://docs.ray.io/en/latest/tune/api/search_space.html
"""

from __future__ import annotations

import math
import re
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
from raysweep.values import is_number

CONSTANT = "constant"  # begins the description of a parameter that is not drawn


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
        elif not _optuna_keeps_steps(domain):
            problems.append(
                f"`{key}` is quantized, and {searcher} would draw other values: it counts linear steps from the lower"
                " bound, up to and with the upper one: use a linear domain from a multiple of q, or none of q"
            )
    if not domains(space) and not problems:
        problems.append(f"the space has nothing to draw, so {searcher} has nothing to search: give a domain")
    if problems:
        raise BadInput(*problems)


def _optuna_keeps_steps(domain: Domain) -> bool:
    """Whether Optuna draws the values that Ray draws: it counts steps from the lower bound, up to and with the end."""
    sampler = domain.get_sampler()
    if not isinstance(sampler, Quantized):
        return True
    linear = isinstance(sampler.sampler, Uniform)
    return linear and _on_step(domain.lower, sampler.q) and _draws_upper_end(domain)


def quantum(domain: Domain) -> float | None:
    """The step between the values of a domain: its q, 1 between integers; None where it is continuous."""
    sampler = domain.get_sampler()
    if isinstance(sampler, Quantized):
        return sampler.q
    return 1 if isinstance(domain, Integer) else None


def allows(domain: Domain, value: Any) -> bool:
    """Whether a domain can draw a value. Ray's own check takes fractions for integers and knows no steps."""
    if not isinstance(domain, Float | Integer):
        return bool(domain.is_valid(value))
    if isinstance(value, bool) or not is_number(value) or (isinstance(domain, Integer) and not isinstance(value, int)):
        return False
    inside = domain.lower <= value < domain.upper or (value == domain.upper and _draws_upper_end(domain))
    return bool(inside and _on_step(value, quantum(domain)))


def _on_step(value: float, step: float | None) -> bool:
    return step is None or math.isclose(value / step, round(value / step), abs_tol=1e-9)


def _draws_upper_end(domain: Domain) -> bool:
    # https://docs.ray.io/en/latest/tune/api/doc/ray.tune.qrandint.html
    return not (isinstance(domain, Integer) and quantum(domain) == 1)


def grid(space: dict[str, Any], resolution: int) -> dict[str, Any]:
    """The space with every domain turned into `tune.grid_search`.

    Args:
        space: Ray's domains; choices are taken whole; integers and quantized domains too, step by step, unless they
            have more steps than `resolution`.
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
        elif (step := quantum(domain)) is not None:
            return tune.grid_search(_steps(domain, step, resolution))
        elif resolution < 2:
            problems.append(
                f"`{key}` is continuous ({domain.lower:g} to {domain.upper:g}): give --resolution N for N points on it,"
                " or make it tune.choice or tune.grid_search"
            )
        else:
            return tune.grid_search(_spread(domain, domain.lower, domain.upper, resolution))
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


def _steps(domain: Float | Integer, step: float, resolution: int) -> list[float]:
    """The values of a domain that has steps; those next to `resolution` evenly spread points if there are more."""
    first, last = math.ceil(round(domain.lower / step, 9)), math.floor(round(domain.upper / step, 9))
    multiples = range(first, last + _draws_upper_end(domain))
    if resolution < 2 or len(multiples) <= resolution:
        return [domain.cast(multiple * step) for multiple in multiples]
    spread = _spread(domain, multiples[0], multiples[-1], resolution)
    return [domain.cast(multiple * step) for multiple in sorted({round(value) for value in spread})]


def _spread(domain: Domain, lower: float, upper: float, count: int) -> list[float]:
    space = np.geomspace if isinstance(_scale(domain), LogUniform) else np.linspace
    values: list[float] = space(lower, upper, count).tolist()
    return values


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
    """`config -> config` with every float pulled back into its domain, onto its next step where it is quantized.

    Ray's PBT multiplies by 0.8 or 1.2 whatever the domain says, so a momentum of 0.9 would become 1.08.
    """
    floats = {key: domain for key, domain in domains(space).items() if isinstance(domain, Float) and "/" not in key}

    def kept(domain: Float, value: float) -> float:
        inside, step = min(max(value, domain.lower), domain.upper), quantum(domain)
        return inside if step is None else round(inside / step) * step

    def clipped(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, **{key: kept(domain, config[key]) for key, domain in floats.items() if key in config}}

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
    """`a/b` -> a line that names the domain, the grid or the constant; the same text means the same space."""
    lines = {key: _line(domain) for key, domain in domains(space).items()}
    lines |= {key: f"grid {values}" for key, values in grids(space).items()}
    lines |= {key: f"{CONSTANT} {value!r}" for key, value in _constants(space)}
    # Functions show their address, which is another one in the next process.
    return {key: re.sub(r" at 0x[0-9a-f]+", "", line) for key, line in sorted(lines.items())}


def _line(domain: Domain) -> str:
    sampler, scale = domain.get_sampler(), _scale(domain)
    words = {**vars(scale), "q": sampler.q} if isinstance(sampler, Quantized) else vars(scale)
    return " ".join([type(domain).__name__, domain.domain_str, str(scale), *(f"{k}={v}" for k, v in words.items())])


def _constants(space: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in space.items():
        if isinstance(value, dict) and "grid_search" not in value:
            yield from _constants(value, f"{prefix}{key}/")
        elif not isinstance(value, Domain | dict):
            yield f"{prefix}{key}", value
