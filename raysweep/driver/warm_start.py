"""`--warm-start OTHER_SWEEP`: earlier trials for a new sweep's search.

A model-based searcher is given them as observations. Random and grid search skip what was tried. A population, or
trials that wait for each other in brackets, begins with the best configurations among its first ones. The first start
event of the journal has all that came in, so a resumed sweep needs the earlier one no more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raysweep.errors import BadInput, Corrupt, StorageError
from raysweep.history import results
from raysweep.history.results import SweepResults
from raysweep.history.warm_start import SHARE_OF_BEST, best_configurations, earlier
from raysweep.loop.assemble import SYNCHRONOUS, Assembly, objective_of
from raysweep.loop.searcher import Learning
from raysweep.spec.configuration import Codec
from raysweep.spec.flags import Flags
from raysweep.spec.initial_points import Point, described, joined
from raysweep.spec.observations import Observation
from raysweep.spec.sweep import Sweep
from raysweep.storage import open_storage


def warm_started(
    sweep: Sweep, flags: Flags, config: Any, resumed: SweepResults | None
) -> tuple[Sweep, list[str], list[str]]:
    """The sweep with what earlier ones have observed.

    Args:
        sweep: its settings so far.
        flags: those of the job.
        config: the strategy's TuneConfig.
        resumed: what is known of the sweep, if it goes on.

    Returns:
        The sweep, with observations and perhaps more points to try first; what is said of it; and all problems.
    """
    known = resumed.state.warm_start if resumed else None
    if resumed and resumed.state.trials and known is None:
        return sweep, [], _late_problems(sweep, flags)
    if known is not None:
        observations = tuple(map(Observation.from_dict, known))
        said: list[str] = []
        problems = _other_problems(sweep, flags, observations)
    else:
        observations, said, problems = _observations(sweep, flags, config)
    sweep = replace(sweep, earlier=observations)
    if problems or not observations:
        return sweep, said, problems
    if isinstance(config.scheduler, SYNCHRONOUS):
        return replace(sweep, points=_with_the_best(sweep)), said, []
    return sweep, said, _searcher_problems(sweep, flags, config)


def _observations(sweep: Sweep, flags: Flags, config: Any) -> tuple[tuple[Observation, ...], list[str], list[str]]:
    observations: list[Observation] = []
    said: list[str] = []
    problems: list[str] = []
    objective = objective_of(config.search_alg, sweep)
    for name in dict.fromkeys(flags.warm_start):
        try:
            place, last = _place(sweep, name)
            read = results.read(last, place)
            found = earlier(read, sweep.space, objective, sweep.max_iterations)
        except BadInput as error:
            own = f"`--warm-start {name}`: "
            problems += [each if each.startswith("`--warm-start") else own + each for each in error.problems]
        except (Corrupt, StorageError) as error:
            problems.append(f"`--warm-start {name}`: {error}")
        else:
            observations += found.observations
            said += [found.sentence, *(f"warning: it lacks what is damaged: {each}" for each in read.damage)]
    return tuple(observations), said, problems


def _place(sweep: Sweep, name: str) -> tuple[str, str]:
    """The storage of an earlier sweep, and its name there: `NAME` is beside the new one, `s3://…/NAME` elsewhere."""
    parent, _, last = name.rstrip("/").rpartition("/")
    return parent or sweep.storage, last


def _with_the_best(sweep: Sweep) -> tuple[Point, ...]:
    codec = Codec(sweep.space)
    free = sweep.samples - sum(point.value is None for point in sweep.points)
    count = min(max(sweep.samples // SHARE_OF_BEST, 1), max(free, 0))
    best = best_configurations(sweep.earlier, sweep.mode, count)
    points = [Point(codec.restore_flat(codec.write_flat(codec.restore(each)))) for each in best]
    return joined(described(sweep.points, sweep.space), points, sweep.space)


def _searcher_problems(sweep: Sweep, flags: Flags, config: Any) -> list[str]:
    given = " ".join(f"--warm-start {name}" for name in flags.warm_start)
    if not isinstance(config.search_alg, Learning):
        kind = type(config.search_alg).__name__
        return [
            f"`{given}`: {sweep.strategy} searches with {kind}, which takes no earlier trials: use"
            " raysweep.OptunaSearch"
        ]
    if Assembly(config, sweep, flags).total == 0:
        return [f"`{given}`: every configuration of the grid was tried there: add values, or leave it out"]
    return []


def _late_problems(sweep: Sweep, flags: Flags) -> list[str]:
    return [
        f"`--warm-start {name}`: sweep `{sweep.name}` was started without it: leave it out, or give another --name"
        for name in flags.warm_start
    ]


def _other_problems(sweep: Sweep, flags: Flags, known: tuple[Observation, ...]) -> list[str]:
    urls = {each.sweep for each in known}
    given = {
        name: open_storage(place).child(last).url for name in flags.warm_start for place, last in [_place(sweep, name)]
    }
    return [
        f"`--warm-start {name}`: sweep `{sweep.name}` was started with {', '.join(sorted(urls))}: a sweep keeps what it"
        " has learnt from: leave it out, or give another --name"
        for name, url in given.items()
        if url not in urls
    ]
