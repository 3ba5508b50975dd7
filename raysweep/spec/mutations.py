"""What population based training may change in a running trial, and how the changes stay in the space.

Ray's schedulers are given written configurations (see `spec.configuration`): so a choice has JSON values here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Float, Function, Integer

from raysweep.errors import BadInput
from raysweep.spec.configuration import Codec, has_domains, parameters
from raysweep.spec.paths import KeyPath, name_of, value_at
from raysweep.spec.space import multiples_of, quantum, steps
from raysweep.values import flat

FEW = 16  # values of a parameter: it moves to the next one, since a factor of 0.8 or 1.2 may not leave the present one
Written = dict[str, Any]


def mutations(space: dict[str, Any], mutable: tuple[str, ...] | None) -> dict[str, Any]:
    """The parameters that PBT may change, as Ray's `hyperparam_mutations`.

    A number is multiplied by 0.8 or 1.2, or drawn anew; of a choice, or of few numbers with steps, a neighbour is taken
    (https://docs.ray.io/en/latest/tune/api/doc/ray.tune.schedulers.PopulationBasedTraining.html).

    Args:
        space: Ray's domains.
        mutable: the task's MUTABLE; None for every float domain (a learning rate, not a width).

    Raises:
        BadInput: nothing can be changed, or a parameter of MUTABLE cannot, by name.
    """
    codec = Codec(space)
    chosen = _mutable(space, mutable, _problem)
    return _nested({path: _mutation(codec, path, domain) for path, domain in chosen.items()})


def bounds(space: dict[str, Any], mutable: tuple[str, ...] | None) -> dict[str, Any]:
    """`[lowest, highest]` of each parameter that PB2 may change: it models them as numbers in a box.

    Raises:
        BadInput: one line per mutable parameter that is not a float domain, with its name.
    """
    chosen = _mutable(space, mutable, _pb2_problem)
    return _nested({path: [float(domain.lower), float(domain.upper)] for path, domain in chosen.items()})


def _mutable(
    space: dict[str, Any], mutable: tuple[str, ...] | None, problem: Callable[[KeyPath, Domain], str | None]
) -> dict[KeyPath, Any]:
    """The parameters that may change; `problem` says why one cannot."""
    drawn = {path: domain for path, domain in parameters(space).items() if not domain.is_grid()}
    if mutable is None:
        floats = {path: domain for path, domain in drawn.items() if isinstance(domain, Float)}
        chosen = {path: domain for path, domain in floats.items() if problem(path, domain) is None}
    else:
        chosen = {path: domain for path, domain in drawn.items() if name_of(path) in mutable}
    unknown = set(mutable or ()) - set(map(name_of, chosen))
    problems = [f"MUTABLE names `{name}`, which has no domain in the space" for name in sorted(unknown)]
    problems += [text for path, domain in chosen.items() if (text := problem(path, domain))]
    if problems:
        raise BadInput(*problems)
    if not chosen:
        raise BadInput("the task has no parameter that may change in a running trial: name some in MUTABLE")
    return chosen


def _problem(path: KeyPath, domain: Domain) -> str | None:
    if any(isinstance(key, int) and not isinstance(key, bool) for key in path[1:]):
        return f"`{name_of(path)}` is in a list, where Ray's scheduler cannot change it: give it a name of its own"
    if isinstance(domain, Function):
        return f"`{name_of(path)}` is a sample_from, which cannot be perturbed: leave it out of MUTABLE"
    if isinstance(domain, Categorical) and any(map(has_domains, domain.categories)):
        return f"`{name_of(path)}` is a choice that contains domains, and cannot be perturbed: leave it out of MUTABLE"
    return None


def _pb2_problem(path: KeyPath, domain: Domain) -> str | None:
    if not isinstance(domain, Float) or not math.isfinite(domain.lower) or not math.isfinite(domain.upper):
        return f"`{name_of(path)}` has no bounds as a float, and PB2 changes only such numbers: leave it out of MUTABLE"
    if any("/" in str(key) for key in path):
        return f"`{name_of(path)}` has a slash in its key, which PB2 takes for nesting: rename it"
    return _problem(path, domain)


def _mutation(codec: Codec, path: KeyPath, domain: Domain) -> Any:
    choices = codec.choices(path)
    if choices is not None:
        return choices.written
    values = steps(domain)
    return values if values is not None and len(values) <= FEW else domain


def _nested(by_path: dict[KeyPath, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in by_path.items():
        inner = nested
        for key in path[:-1]:
            inner = inner.setdefault(str(key), {})
        inner[str(path[-1])] = value
    return nested


def inside(space: dict[str, Any]) -> Callable[[Written], Written]:
    """A function that puts a changed configuration back into the space: numbers into their bounds and on their steps.

    Ray's PBT multiplies by 0.8 or 1.2 regardless of the domain, so a momentum of 0.9 would become 1.08; PB2 knows no
    steps, and takes keys with a slash apart.
    """
    codec, drawn = Codec(space), parameters(space)

    def put_inside(config: Written) -> Written:
        joined = flat(config)  # PB2 takes keys with a slash for nested ones
        values = {}
        for path, domain in drawn.items():
            value = joined[name_of(path)] if name_of(path) in joined else value_at(config, path)
            values[path] = _clipped(domain, value)
        return codec.rebuild(values)

    return put_inside


def _clipped(domain: Domain, value: Any) -> Any:
    if not isinstance(domain, Float | Integer):
        return value
    step = quantum(domain)
    if step is None:
        return min(max(value, domain.lower), domain.upper)
    nearest = round(value / step)
    if math.isfinite(domain.upper - domain.lower) and (allowed := multiples_of(domain, step)):
        nearest = min(max(nearest, allowed[0]), allowed[-1])
    return domain.cast(nearest * step)
