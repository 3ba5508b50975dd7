"""What can be wrong with a search space, found before anything starts; each problem is one sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ray import cloudpickle
from ray.tune.search.sample import Domain

from raysweep.spec.configuration import Codec, has_domains, parameters
from raysweep.spec.paths import KeyPath, name_of
from raysweep.spec.space import constants


def check_space(space: dict[str, Any]) -> list[str]:
    """Problems with the parameters of a space, whatever is drawn of them: with their names, domains and choices."""
    names = Counter([*map(name_of, parameters(space)), *(name for name, _ in constants(space))])
    problems = [
        f"`{name}` is the name of two parameters: a nested one, or one with another type of key: rename one of them"
        for name, count in names.items()
        if count > 1
    ]
    codec = Codec(space)
    for path, domain in parameters(space).items():
        problems += _domain_problems(path, domain, codec)
    return problems


def _domain_problems(path: KeyPath, domain: Domain, codec: Codec) -> Iterator[str]:
    name, choices = name_of(path), codec.choices(path)
    lower, upper = getattr(domain, "lower", None), getattr(domain, "upper", None)
    if lower is not None and upper is not None and not lower < upper:
        yield f"`{name}` has the bounds {lower} and {upper}: the lower one must be less than the upper one"
    if choices is None:
        return
    if not choices.values:
        yield f"`{name}` has nothing to choose from: give it some values"
    for value, first, written in zip(choices.values, choices.firsts, choices.written, strict=True):
        if choices.index_of_written(written) != first:
            yield f"`{name}`: two of its choices are both written as {written!r}: give one of them another name"
        yield from (f"`{name}`: its choice {written!r} {problem}" for problem in _pickle_problems(value))


def _pickle_problems(value: Any) -> Iterator[str]:
    try:
        cloudpickle.dumps(value)
    except Exception as error:
        yield f"cannot be sent to a worker ({type(error).__name__}: {error}): create it in the training function"


def draw_problems(space: dict[str, Any], drawn: dict[str, Any]) -> list[str]:
    """Problems with a drawn configuration, on the way that each trial's configuration goes: to JSON, back, to a worker.

    Args:
        space: of Ray's domains.
        drawn: by a searcher.
    """
    problems = []
    for key, value in drawn.items():
        try:
            problem = _problem(Codec({key: space.get(key)}), {key: value})
        except Exception as error:
            problem = f"cannot be kept in the journal, or sent to a worker ({type(error).__name__}: {error})"
        if problem:
            problems.append(f"`{key}` {problem}: draw numbers, texts, or what can be pickled")
    return problems


def _problem(codec: Codec, config: dict[str, Any]) -> str | None:
    if has_domains(config):
        return "contains a domain that is not drawn"
    written = json.loads(json.dumps(codec.write(config), allow_nan=False))
    restored = codec.restore(written)
    cloudpickle.dumps(restored)
    return None if codec.write(restored) == written else "is not the same again after it was stored as JSON"
