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

from raysweep.errors import BadInput
from raysweep.spec.configuration import filled, has_domains, parameters
from raysweep.spec.paths import KeyPath, name_of
from raysweep.values import is_number

MOST_COMBINATIONS = 100_000  # of a grid: each is a trial
CONSTANT = "constant"  # first word in the description of a parameter that is not sampled


def domains(space: dict[str, Any]) -> dict[str, Domain]:
    """`a/b` -> domain, for every parameter that is sampled; nested dictionaries and lists are joined with a slash."""
    return {name_of(path): domain for path, domain in parameters(space).items() if not domain.is_grid()}


def grids(space: dict[str, Any]) -> dict[str, list[Any]]:
    """`a/b` -> values, for every parameter given as `tune.grid_search`."""
    return {name_of(path): list(domain.categories) for path, domain in parameters(space).items() if domain.is_grid()}


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
        if _has_conditions(domain):
            problems.append(
                f"`{key}` is a choice that contains domains, which {searcher} cannot sample: make them parameters of"
                " their own, or use `random_search` or `asha`"
            )
        elif isinstance(domain, Function):
            problems.append(
                f"`{key}` is a sample_from, which {searcher} cannot sample: use a domain such as tune.uniform"
            )
        elif not isinstance(scale_of(domain), Uniform | LogUniform):
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


def _has_conditions(domain: Domain) -> bool:
    return isinstance(domain, Categorical) and any(map(has_domains, domain.categories))


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
    axes: dict[KeyPath, list[Any]] = {}
    for path, domain in parameters(space).items():
        try:
            axes[path] = _axis(domain, resolution)
        except ValueError as error:
            problems.append(f"`{name_of(path)}` {error}")
    combinations = math.prod(map(len, axes.values()))
    if combinations > MOST_COMBINATIONS:
        sizes = ", ".join(f"`{name_of(path)}` {len(values)}" for path, values in axes.items())
        problems.append(
            f"the grid has {combinations} combinations ({sizes}), and each is a trial: at most {MOST_COMBINATIONS} are"
            " allowed: give fewer values, or use `random_search`"
        )
    if problems:
        raise BadInput(*problems)
    whole = dict(filled(space, {path: tune.grid_search(values) for path, values in axes.items()}))
    parameters(whole)  # raises if Ray cannot sort its keys
    return whole


def _axis(domain: Domain, resolution: int) -> list[Any]:
    """The values of a domain in a grid.

    Raises:
        ValueError: it has none, or far too many.
    """
    if isinstance(domain, Categorical) and not _has_conditions(domain):
        return list(domain.categories)
    if not isinstance(domain, Float | Integer) or not isinstance(scale_of(domain), Uniform | LogUniform):
        raise ValueError("has no grid: make it tune.choice or tune.grid_search, of values without domains")
    step = quantum(domain)
    if step is None and resolution < 2:
        raise ValueError(
            f"is continuous ({domain.lower:g} to {domain.upper:g}): give --resolution N for N points on it,"
            " or make it tune.choice or tune.grid_search"
        )
    if step is None:
        return _spread(domain, domain.lower, domain.upper, resolution)
    multiples = multiples_of(domain, step)
    if resolution < 2 and len(multiples) > MOST_COMBINATIONS:
        raise ValueError(f"has {len(multiples)} values: give --resolution N for N of them, or make it tune.choice")
    return _steps(domain, step, multiples, resolution)


def scale_of(domain: Domain) -> Any:
    """How a domain is sampled, apart from its steps: Ray's `Uniform`, `LogUniform` or `Normal`."""
    sampler = domain.get_sampler()
    return sampler.sampler if isinstance(sampler, Quantized) else sampler


def multiples_of(domain: Float | Integer, step: float) -> range:
    """The multiples of the step that a domain can yield."""
    first, last = math.ceil(round(domain.lower / step, 9)), math.floor(round(domain.upper / step, 9))
    return range(first, last + _draws_upper_end(domain))


def steps(domain: Domain) -> list[Any] | None:
    """All values of a domain with steps, in order; None if it has none, or more than MOST_COMBINATIONS."""
    step = quantum(domain)
    if step is None or not isinstance(domain, Float | Integer) or math.isinf(domain.upper - domain.lower):
        return None
    multiples = multiples_of(domain, step)
    return [domain.cast(each * step) for each in multiples] if len(multiples) <= MOST_COMBINATIONS else None


def _steps(domain: Float | Integer, step: float, multiples: range, resolution: int) -> list[Any]:
    """All values of a domain with steps; if more than `resolution`, those nearest to so many evenly spaced points."""
    if resolution < 2 or len(multiples) <= resolution:
        return [domain.cast(multiple * step) for multiple in multiples]
    spread = _spread(domain, multiples[0], multiples[-1], resolution)
    return [domain.cast(multiple * step) for multiple in sorted({round(value) for value in spread})]


def _spread(domain: Domain, lower: float, upper: float, count: int) -> list[float]:
    space = np.geomspace if isinstance(scale_of(domain), LogUniform) else np.linspace
    values: list[float] = space(lower, upper, count).tolist()
    return values


def describe(space: dict[str, Any]) -> dict[str, str]:
    """`a/b` -> a line that describes the domain, the grid or the constant; equal text means equal spaces."""
    lines = {key: _line(domain) for key, domain in domains(space).items()}
    lines |= {key: f"grid {_list(values)}" for key, values in grids(space).items()}
    lines |= {key: f"{CONSTANT} {value!r}" for key, value in constants(space)}
    # The repr of a function has its address, which differs between processes.
    return {key: re.sub(r" at 0x[0-9a-f]+", "", line) for key, line in sorted(lines.items())}


def _line(domain: Domain) -> str:
    sampler, scale = domain.get_sampler(), scale_of(domain)
    words = {**vars(scale), "q": sampler.q} if isinstance(sampler, Quantized) else vars(scale)
    values = _list(domain.categories) if isinstance(domain, Categorical) else domain.domain_str
    return " ".join([type(domain).__name__, values, str(scale), *(f"{k}={v}" for k, v in words.items())])


def _list(values: list[Any]) -> str:
    return f"[{', '.join(str(describe({'': each})) if has_domains(each) else repr(each) for each in values)}]"


def constants(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """`a/b` -> value, for every parameter of a space that is not drawn."""
    drawn = parameters(node)
    if isinstance(node, dict) and () not in drawn:
        for key, value in node.items():
            yield from constants(value, f"{name}/{key}" if name else str(key))
    elif isinstance(node, list | tuple) and drawn:
        for index, value in enumerate(node):
            yield from constants(value, f"{name}/{index}")
    elif not drawn:
        yield name, node


def forgotten_choices(space: dict[str, Any]) -> list[str]:
    """Notes about constants that look like a list of values to choose from: `"lr": [0.1, 0.01]`."""
    return [
        f"note: `{name}` is the list {value}, which every trial is given as a whole: to try each value, write"
        f" tune.choice({value})"
        for name, value in constants(space)
        if isinstance(value, list) and len(value) > 1 and len({type(each) for each in value}) == 1
        if isinstance(value[0], bool | int | float | str)
    ]
