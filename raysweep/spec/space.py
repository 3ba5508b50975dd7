"""One search space for every strategy, converted to what each needs; a parameter that cannot be is refused by name.

The format is Ray Tune's own: https://docs.ray.io/en/latest/tune/api/search_space.html
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

CONSTANT = "constant"  # first word in the description of a parameter that is not sampled


def domains(space: dict[str, Any]) -> dict[str, Domain]:
    """`a/b` -> domain, for every parameter that is sampled; nested dictionaries are flattened with a slash."""
    return {"/".join(map(str, path)): domain for path, domain in parse_spec_vars(space)[1]}


def grids(space: dict[str, Any]) -> dict[str, list[Any]]:
    """`a/b` -> values, for every parameter given as `tune.grid_search`."""
    return {"/".join(map(str, path)): list(values) for path, values in parse_spec_vars(space)[2]}


def check_for_searcher(space: dict[str, Any], searcher: str) -> None:
    """Refuses what a model-based searcher cannot sample.

    Raises:
        BadInput: one line per parameter, with its name.
    """
    problems = [
        f"`{key}` is a grid_search, but {searcher} samples its own values: make it tune.choice, or use `grid`"
        for key in grids(space)
    ]
    for key, domain in domains(space).items():
        if isinstance(domain, Function):
            problems.append(
                f"`{key}` is a sample_from, which {searcher} cannot sample: use a domain such as tune.uniform"
            )
        elif not isinstance(_scale(domain), Uniform | LogUniform):
            problems.append(f"`{key}` is normally distributed, which {searcher} cannot sample: use tune.uniform")
        elif not _optuna_has_same_steps(domain):
            problems.append(
                f"`{key}` is quantized, and {searcher} would sample other values: it takes linear steps from the lower"
                " bound up to and including the upper one: use a linear domain that starts at a multiple of q, or no q"
            )
    if not domains(space) and not problems:
        problems.append(f"the space has nothing to sample, so {searcher} has nothing to search: add a domain")
    if problems:
        raise BadInput(*problems)


def _optuna_has_same_steps(domain: Domain) -> bool:
    """Whether Optuna samples the same values as Ray: its steps go from the lower bound to the upper one, inclusive."""
    sampler = domain.get_sampler()
    if not isinstance(sampler, Quantized):
        return True
    linear = isinstance(sampler.sampler, Uniform)
    return linear and _on_step(domain.lower, sampler.q) and _draws_upper_end(domain)


def quantum(domain: Domain) -> float | None:
    """The step between the values of a domain: its q, or 1 for integers; None if it is continuous."""
    sampler = domain.get_sampler()
    if isinstance(sampler, Quantized):
        return sampler.q
    return 1 if isinstance(domain, Integer) else None


def allows(domain: Domain, value: Any) -> bool:
    """Whether a domain can yield a value. Ray's own check accepts fractions for integers and ignores steps."""
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
    """The space with every domain replaced by `tune.grid_search`.

    Args:
        space: Ray's domains. All choices are in the grid, and all steps of integers and quantized domains unless there
            are more than `resolution`.
        resolution: points on each continuous axis, evenly spaced on its own scale, both ends included;
            with 0 a continuous axis is an error.

    Raises:
        BadInput: one line per parameter that has no grid, with its name.
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
    """All values of a domain with steps; if more than `resolution`, those nearest to so many evenly spaced points."""
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
    """The parameters that population based training may change in a running trial.

    Args:
        space: Ray's domains.
        mutable: the task's MUTABLE; None for every float domain (a learning rate, not a width).

    Raises:
        BadInput: nothing can be changed, or a name of MUTABLE has no domain in the space.
    """
    sampled = domains(space)
    keys = mutable if mutable is not None else tuple(k for k, d in sampled.items() if isinstance(d, Float))
    problems = [f"MUTABLE names `{key}`, which has no domain in the space" for key in keys if key not in sampled]
    problems += [f"MUTABLE names `{key}`: a nested parameter cannot be perturbed" for key in keys if "/" in key]
    if not keys:
        problems.append("the task has no parameter that may change in a running trial: name some in MUTABLE")
    if problems:
        raise BadInput(*problems)
    return {key: sampled[key] for key in keys}


def clip(space: dict[str, Any]) -> Any:
    """A function `config -> config` that clips every float to its domain, and to the nearest step if it is quantized.

    Ray's PBT multiplies by 0.8 or 1.2 regardless of the domain, so a momentum of 0.9 would become 1.08.
    """
    floats = {key: domain for key, domain in domains(space).items() if isinstance(domain, Float) and "/" not in key}

    def clip_value(domain: Float, value: float) -> float:
        inside, step = min(max(value, domain.lower), domain.upper), quantum(domain)
        return inside if step is None else round(inside / step) * step

    def clip_config(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, **{key: clip_value(domain, config[key]) for key, domain in floats.items() if key in config}}

    return clip_config


def bounds(space: dict[str, Any], mutable: tuple[str, ...] | None) -> dict[str, list[float]]:
    """`[lowest, highest]` of each parameter that PB2 may change: it models them as numbers in a box.

    Raises:
        BadInput: one line per mutable parameter that is not a float domain, with its name.
    """
    mutable_domains = mutations(space, mutable)
    wrong = [key for key, domain in mutable_domains.items() if not isinstance(domain, Float)]
    if wrong:
        raise BadInput(
            *(f"`{key}` is not a float domain, but PB2 changes only numbers: leave it out of MUTABLE" for key in wrong)
        )
    return {key: [float(domain.lower), float(domain.upper)] for key, domain in mutable_domains.items()}


def describe(space: dict[str, Any]) -> dict[str, str]:
    """`a/b` -> a line that describes the domain, the grid or the constant; equal text means equal spaces."""
    lines = {key: _line(domain) for key, domain in domains(space).items()}
    lines |= {key: f"grid {values}" for key, values in grids(space).items()}
    lines |= {key: f"{CONSTANT} {value!r}" for key, value in _constants(space)}
    # The repr of a function has its address, which differs between processes.
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
