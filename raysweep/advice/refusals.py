"""The strategies that a task cannot have: what a strategy's file and the checks before a start say, word for word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from raysweep.driver import preflight
from raysweep.driver.main import config_of
from raysweep.errors import BadInput
from raysweep.spec.flags import Flags
from raysweep.spec.sweep import checked_knobs, settle, strategy
from raysweep.spec.task import Task

# Values for flags without which a strategy refuses many a space, though it could have it: a grid needs its points.
HELPED: Mapping[str, Mapping[str, int]] = {"grid": {"resolution": 3}}


def refusals(task: Task, flags: Flags, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Strategy -> all that is wrong with it for this task; those that are legal are left out.

    Raises:
        BadInput: no strategy could have this task, with what is wrong with it.
    """
    sweep = settle(flags, "random_search", task, ())
    common = preflight.check_static(flags, sweep, None)
    if common:
        raise BadInput(*common)
    found = {name: _problems(task, flags, name) for name in names}
    return {name: problems for name, problems in found.items() if problems}


def _problems(task: Task, flags: Flags, name: str) -> tuple[str, ...]:
    chosen, sweep = strategy(name), settle(flags, name, task, ())
    knobs, _ = checked_knobs(chosen, dict(HELPED.get(name, {})))
    config, problems = config_of(chosen, sweep, knobs)
    return tuple(problems or preflight.check_static(flags, sweep, config))
