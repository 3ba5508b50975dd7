"""`raysweep check`, and `--dry-run`: whether a sweep fits, how long it takes, and what it costs, before it is started.

A few configurations that the space draws are timed in real processes of trials, as many at a time as the sweep would
run on a node; then those that a model of these says are the smallest and the largest. So what is not a question of size
is measured, too: the imports of a process, its data, and where its checkpoints go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import click
import numpy as np
import psutil
import ray
from ray import tune

from raysweep import ray_private
from raysweep.driver import capacity, local_ray
from raysweep.driver.fit import GIB, Fit
from raysweep.driver.forecast import Estimate, Forecast, Seconds, forecast
from raysweep.driver.measure import Measurement, Timed
from raysweep.driver.pace import Pace
from raysweep.driver.runner import Runner
from raysweep.errors import SweepFailed
from raysweep.history.cost import Rate, money
from raysweep.loop.random_grid_search import Variants
from raysweep.reporting.judgement import seconds as duration
from raysweep.spec import prices
from raysweep.spec.configuration import Codec
from raysweep.spec.sweep import Sweep
from raysweep.storage import open_storage
from raysweep.trial.usage import Usage
from raysweep.values import to_json

DRAWS = 6  # configurations that are timed before the smallest and the largest, at least
WIDEST = 16  # trials at the same time, of a node that has room for more
POOL = 200  # configurations that say what range each parameter has
UNITS = ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
ConfigOf = Callable[[Sweep], tune.TuneConfig | None]


def check(runner: Runner, config_of: ConfigOf) -> None:
    """Measures, and prints what a sweep would take.

    Args:
        runner: of the sweep, which has passed the preflight.
        config_of: makes the strategy's TuneConfig anew.

    Raises:
        SweepFailed: a trial failed, or the sweep would not fit.
    """
    with ray_private.quiet():
        if not ray.is_initialized():
            local_ray.start()
        measured = _measure(runner)
        rate, places = runner.rate, min(runner.assembly.concurrency(runner.places), runner.assembly.total)
        found = forecast(runner.sweep, runner.flags, config_of, measured.seconds, places, rate)
        fits = Fit.of(runner.sweep, measured.usages, capacity.rooms(runner.sweep.cpus, runner.sweep.gpus), places)
    told = [*_of_measured(measured), *_of_memory(fits, runner.sweep), *_of_sweep(runner, found, measured, rate)]
    for name, text in told:
        click.echo(f"{name:<18}{text}")
    if fits and (problems := fits.problems):
        raise SweepFailed("\n".join(problems))


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the timed trials have shown.

    Attributes:
        timed: all of them, the smallest and the largest configuration last.
        width: how many ran at the same time.
        seconds: for the forecast.
        startup: seconds from the start of this process to the first trial's.
        took: seconds of the measurement.
    """

    timed: list[Timed]
    width: int
    seconds: Seconds
    startup: float
    took: float

    @property
    def usages(self) -> list[Usage]:
        """Of all processes."""
        return [usage for each in self.timed for usage in each.usages]

    @property
    def extremes(self) -> tuple[Timed, Timed]:
        """The timed configuration with the shortest iteration, and that with the longest."""
        return min(self.timed, key=usual), max(self.timed, key=usual)


def usual(timed: Timed) -> float:
    """Seconds of an iteration: of the last one, since the first one also sets up the trial."""
    return timed.seconds[-1]


def _measure(runner: Runner) -> Measured:
    sweep = runner.sweep
    rooms, random = capacity.rooms(sweep.cpus, sweep.gpus), np.random.default_rng(sweep.seed)
    on_node = max(max(rooms, default=1) // sweep.workers, 1)
    width = min(runner.assembly.concurrency(runner.places), runner.assembly.total, on_node, WIDEST)
    iterations = min(2, sweep.max_iterations)
    pool = _pool(sweep)
    draws = [pool[n] for n in random.permutation(len(pool))][: max(DRAWS, width) + width]
    first, more = draws[: max(DRAWS, width)], draws[max(DRAWS, width) :][: max(width - 2, 0)]
    # One iteration more than is measured, so that a trial waits for the driver after its last one.
    own = dataclasses.replace(sweep, max_iterations=max(sweep.max_iterations, iterations + 1))
    click.echo(
        f"timing {len(first) + len(more) + 2} configurations for {iterations} iterations each, {width} at a time"
    )
    began = time.monotonic()
    with _scratch(runner, own, width) as other, other.opened() as executor:
        opened = time.monotonic()
        measurement = Measurement(executor, sweep.space, width, iterations)
        timed = measurement.run(first)
        pace = _pace(sweep, pool, timed)
        ends = [pace.extreme(first[0], largest) for largest in (False, True)]
        timed += measurement.run([*more, *ends])
        first_place = measurement.first_place or opened
    seconds = _seconds(_pace(sweep, pool, timed), timed, measurement.gaps)
    return Measured(timed, width, seconds, age() - (time.monotonic() - first_place), time.monotonic() - began)


@contextlib.contextmanager
def _scratch(runner: Runner, sweep: Sweep, width: int) -> Iterator[Runner]:
    """A runner of the same task, whose trials leave nothing: what they save and print is removed at the end."""
    storage, folder = open_storage(sweep.storage), f".check-{uuid.uuid4().hex}"
    flags = dataclasses.replace(runner.flags, nan="stop", concurrency=width, show_output=False)
    try:
        yield Runner(runner.strategy, sweep, flags, runner.knobs, tune.TuneConfig(), storage.child(folder).patient())
    finally:
        storage.delete_tree(folder)


def _pool(sweep: Sweep) -> list[dict[str, Any]]:
    """Configurations as random search draws them, with the objects of the space."""
    searcher, pool = Variants(sweep.space, seed=sweep.seed), list[dict[str, Any]]()
    while len(pool) < POOL and isinstance(drawn := searcher.suggest(f"{len(pool):05d}"), dict):
        pool.append(drawn)
    return pool


def _pace(sweep: Sweep, pool: list[dict[str, Any]], timed: Sequence[Timed]) -> Pace:
    """The model of what was timed: where a trial has one iteration only, of those that had not to import first."""
    known = [each for each in timed if len(each.seconds) > 1 or not each.fresh] or timed
    write = Codec(sweep.space).write
    return Pace(sweep.space, [write(config) for config in pool], [k.config for k in known], [usual(k) for k in known])


def _seconds(pace: Pace, timed: Sequence[Timed], gaps: Sequence[float]) -> Seconds:
    """What the first iterations of trials took longer than the model says of any other one."""
    longer: dict[bool, list[float]] = {True: [], False: []}
    for each in timed:
        longer[each.fresh].append(each.seconds[0] - pace.seconds([each.config])[0])
    setup, fresh = (max(median(longer[kind] or [0.0]), 0.0) for kind in (False, True))
    return Seconds(pace, setup, max(fresh, setup), median(gaps or [0.0]))


def age() -> float:
    """Seconds since this program was started: by its first process, of which a driver is a fork."""
    first = psutil.Process()
    with contextlib.suppress(psutil.Error):  # the parent has ended, or is someone else's
        while (parent := first.parent()) is not None and parent.cmdline() == first.cmdline():
            first = parent
    return time.time() - first.create_time()


Line = tuple[str, str]  # what, and how much


def _of_measured(measured: Measured) -> list[Line]:
    timed, (low, high), seconds = measured.timed, measured.extremes, measured.seconds
    matters = ", ".join(f"{name} ({factor:.1f} times)" for name, factor in seconds.pace.what_matters.items())
    saved = max(each.checkpoint for each in timed)
    checkpoint = f"; with a checkpoint of {_size(saved)} where one was saved" if saved else ""
    first = f"the first iteration of a process takes {duration(seconds.fresh)} longer"
    return [
        ("measured", f"{len(timed)} configurations, {max(len(each.seconds) for each in timed)} iterations each,"
         f" {measured.width} at a time, in {duration(measured.took)}"),
        ("an iteration", f"{duration(usual(low))} to {duration(usual(high))}{checkpoint}"),
        ("  smallest", to_json(low.config)),
        ("  largest", to_json(high.config)),
        ("  it changes with", matters or "nothing of the space by more than 10%"),
        ("start", f"{duration(measured.startup)} until the first trial; {first}, that of a trial"
         f" {duration(seconds.setup)}"),
    ]  # fmt: skip


def _of_memory(fits: Fit | None, sweep: Sweep) -> list[Line]:
    if fits is None:
        return [("memory", "not known: no process has answered")]
    what = "trial" if sweep.workers == 1 else "worker of a trial"
    lines = [
        ("memory", f"{_size(fits.own)} of a {what} at its peak, and {_size(fits.shared)} that they share;"
         f" a node has {_size(fits.host_memory)}"),
        ("on a node", f"{fits.at_once} {what.replace('trial', 'trials') if sweep.workers == 1 else 'workers'} at a time"
         f" by {capacity.describe(sweep.cpus, sweep.gpus)} each; its memory has room for {fits.room}"),
    ]  # fmt: skip
    if fits.gpu_memory:
        lines.append(
            ("on a GPU", f"{fits.on_gpu} at a time, of {_size(fits.gpu)} each with CUDA's context; it has"
             f" {_size(fits.gpu_memory)}: room for {fits.gpu_room}")
        )  # fmt: skip
    return lines


def _of_sweep(runner: Runner, found: Forecast, measured: Measured, rate: Rate | None) -> list[Line]:
    total, most = runner.assembly.total, runner.assembly.total * runner.sweep.max_iterations
    ended = found.trials
    budget = "" if ended.low >= total else f"; a budget ends it after {ended.middle:.0f} of {total} trials"
    whole = "" if runner.flags.resume == "never" else "; of a new sweep, whatever is done of this one"
    wall = Estimate(*(each + measured.startup for each in dataclasses.astuple(found.wall)))
    by = f"until the last trial ends, by {found.simulations} simulated sweeps"
    lines = [
        ("iterations", f"{_interval(found.iterations, '{:.0f}')} of {most}, those of all trials"),
        ("time", f"{_interval(wall, duration)}, {by}{whole}{budget}"),
    ]
    if rate is None or found.cost is None:
        return [*lines, ("cost", f"not known: {prices.HOW}")]
    start = rate.cost(measured.startup, 0.0)
    cost = Estimate(*(each + start for each in dataclasses.astuple(found.cost)))
    return [*lines, ("cost", f"{_interval(cost, lambda each: money(each, rate.prices.currency))}, at {rate.prices}")]


def _interval(estimate: Estimate, form: str | Callable[[float], str]) -> str:
    """`12 [10, 15]`: the middle, and the interval."""
    show = form.format if isinstance(form, str) else form
    return f"{show(estimate.middle)} [{show(estimate.low)}, {show(estimate.high)}]"


def _size(size: float) -> str:
    unit, name = next((each for each in UNITS if size >= each[0]), UNITS[-1])
    return f"{size / unit:.3g} {name}"
