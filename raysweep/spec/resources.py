"""What a training function of Ray Tune's asks for by itself: `tune.with_resources`, or a class's own request.

It is the share of a trial unless `--cpus-per-trial` or `--gpus-per-trial` says another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.search.sample import Domain

from raysweep import ray_private
from raysweep.spec.function import is_trainable

KINDS = ("CPU", "GPU")
FIX = "give --cpus-per-trial and --gpus-per-trial, which count instead"


@dataclass(frozen=True)
class Request:
    """What is asked for each trial.

    Attributes:
        cpus: None if nothing is.
        gpus: None if nothing is.
        problem: why no trial can get it; goes on where "`train` of task …" ends.
    """

    cpus: float | None = None
    gpus: float | None = None
    problem: str | None = None


def request_of(train: Any, space: dict[str, Any]) -> Request:
    """What a training function asks for.

    Args:
        train: the function, or a `tune.Trainable`.
        space: whose constants a request may depend on. One that depends on what is drawn is a problem: all trials of a
            sweep have the same share.
    """
    constants = {name: value for name, value in space.items() if not isinstance(value, Domain | dict)}
    try:
        asked = ray_private.resources_of(train)
        if is_trainable(train):
            asked = train.default_resource_request(constants)
        elif asked is not None and not isinstance(asked, tune.PlacementGroupFactory):
            asked = asked(constants)
    except Exception as error:
        return Request(problem=f"asks for resources by its configuration ({type(error).__name__}: {error}): {FIX}")
    return Request() if asked is None else _read(asked)


def _read(asked: tune.PlacementGroupFactory) -> Request:
    bundles = asked.bundles
    if len(bundles) > 1 or asked.head_bundle_is_empty:
        return Request(problem=f"asks for {len(bundles)} bundles, and a trial has one: {FIX}")
    if others := {kind: amount for kind, amount in bundles[0].items() if kind not in KINDS}:
        named = ", ".join(f"{kind} {amount:g}" for kind, amount in others.items())
        return Request(problem=f"asks for {named}, and trials are placed by CPUs and GPUs only: {FIX}")
    return Request(*(bundles[0].get(kind, 0.0) for kind in KINDS))
