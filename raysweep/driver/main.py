"""A job's command line, and what it shares with `raysweep.run`: everything is checked, then the sweep runs."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import ray
from ray import tune
from ray.tune import TuneError

from raysweep import ray_private
from raysweep.driver import local_ray, preflight
from raysweep.driver.runner import Runner, code_hash
from raysweep.driver.supervisor import Supervisor
from raysweep.errors import BadInput, RaysweepError
from raysweep.history import journal, resubmit_ticket, results
from raysweep.history.lease import claim
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import SweepState
from raysweep.loop.random_grid_search import Variants
from raysweep.loop.ray_executor import RayExecutor
from raysweep.spec import task as tasks
from raysweep.spec.flags import Flags, command, default_name
from raysweep.spec.initial_points import Point
from raysweep.spec.initial_points import read as read_points
from raysweep.spec.sweep import NoKnobs, Strategy, Sweep, default_storage, settle, strategy_of
from raysweep.spec.task import Task
from raysweep.storage import Storage, dataset, open_storage


def main(tune_config: Callable[[Sweep, Any], tune.TuneConfig], knobs: type = NoKnobs) -> None:
    """The command line of a job: `raysweep.main(tune_config, Knobs)` is a strategy file's last line.

    The sweep runs under a supervisor, which starts a driver that dies again. Exits with 0 when every trial is accounted
    for, 1 when trials failed beyond what was allowed, 2 on bad input.
    """
    module = sys.modules[tune_config.__module__]
    name = Path(inspect.getfile(tune_config)).stem
    chosen = strategy_of(module, name)

    def body(flags: Flags, values: Any, problems: list[str]) -> None:
        # A second life must find the sweep of the first. Who resumes has to say which.
        fresh = default_name(flags.task, name) if flags.resume == "never" else None
        named, began = dataclasses.replace(flags, name=flags.name or fresh), time.monotonic()

        def driver(again: bool) -> int:
            if named.name and not again:
                resubmit_ticket.write(named.name)
            asked = _another_life(named, time.monotonic() - began) if again else named
            if again or _lived_before(asked):
                preflight.sit_out(asked.storage or default_storage())
            return _exit_code(lambda: _from_flags(chosen, asked, values, problems))

        code = Supervisor(driver).run()
        resubmit_ticket.remove()
        sys.exit(code)

    command(chosen.doc, knobs, body, f"python jobs/{name}.py")()


def _lived_before(flags: Flags) -> bool:
    """Whether this is another try of a job; of a RayJob's tries no one knows which it is."""
    return resubmit_ticket.life() > 1 or (
        flags.resume != "never" and preflight.is_own(flags.storage or default_storage())
    )


def _another_life(flags: Flags, seconds: float) -> Flags:
    """What a driver is asked that goes on after so many seconds of the ones before."""
    budget = flags.time_budget and max(flags.time_budget - seconds, 1.0)
    return dataclasses.replace(flags, resume="auto", time_budget=budget)


def _exit_code(work: Callable[[], Any]) -> int:
    try:
        work()
    except RaysweepError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        return error.exit_code
    return 0


def _from_flags(chosen: Strategy, flags: Flags, knobs: Any, problems: list[str]) -> SweepResults | None:
    try:
        task = tasks.load(flags.task)
    except BadInput as error:
        raise BadInput(*problems, *error.problems, *_without_task(chosen, flags)) from None
    points: tuple[Point, ...] = ()
    try:
        points = tuple(read_points(flags.points, task.space)) if flags.points else ()
    except BadInput as error:
        problems = [*problems, *error.problems]
    return check_and_run(chosen, flags, knobs, task, points, problems)


def _without_task(chosen: Strategy, flags: Flags) -> list[str]:
    """What is wrong beside the task, which could not be loaded."""
    nothing = Task(flags.task, lambda config: None, {}, flags.metric or "", flags.mode or "max", 1)
    sweep = settle(flags, chosen.name, nothing, ())
    problems = preflight.check_flags(flags, sweep)
    found, unusable = _found(sweep, flags)
    problems += unusable or preflight.check_name(sweep, flags, found.state if found else None)
    return problems + _room(sweep, flags, usable=not unusable)


def check_and_run(
    chosen: Strategy, flags: Flags, knobs: Any, task: Task, points: tuple[Point, ...], problems: list[str]
) -> SweepResults | None:
    """Runs a sweep that has nothing wrong with it; None after a dry run.

    Args:
        chosen: the strategy.
        flags: what is asked for.
        knobs: the strategy's own.
        task: what is tuned.
        points: configurations to try first.
        problems: what is known to be wrong already.

    Raises:
        BadInput: everything that is wrong; nothing was started.
        SweepFailed: trials failed beyond `max_failures`, or none reported.
    """
    sweep = settle(flags, chosen.name, task, points)
    config, refused = _tune_config(chosen, sweep, knobs)
    found, unusable = _found(sweep, flags)
    problems = problems + refused + preflight.check_static(flags, sweep, config) + unusable
    problems += [] if unusable else _mixed(sweep, flags, knobs, config, found)
    problems += _room(sweep, flags, usable=not unusable)
    if problems:
        raise BadInput(*problems)
    assert config is not None
    place = open_storage(sweep.storage).child(sweep.name).patient()
    if flags.dry_run:
        click.echo(f"dry run: {chosen.name} on {task.name}, {sweep.samples} samples, to {place.url}: nothing started")
        return None
    runner = Runner(chosen, sweep, flags, knobs, config, place)
    with ray_private.quiet(), _executor(runner, task, flags) as executor, claim(place, click.echo) as lease:
        # Another driver may have been here since.
        found = _read(place)
        if problems := _mixed(sweep, flags, knobs, config, found):
            raise BadInput(*problems)
        if found and found.spec.get("code") != code_hash(task.train, chosen.tune_config):
            click.echo(f"warning: the code of {task.name} or {chosen.name} has changed since {sweep.name} was begun")
        return runner.run(executor, lease, found.state if found else None)


@contextlib.contextmanager
def _executor(runner: Runner, task: Task, flags: Flags) -> Iterator[RayExecutor]:
    """What runs the trials, with the task's data in the object store of a Ray that runs from here on.

    Both are there before the sweep begins: while something is wrong with the data, its name is free.
    """
    if not ray.is_initialized():
        local_ray.start()
    executor = runner.executor()
    try:
        if task.load_data is not None and task.takes_data:
            with dataset.folder(flags.data) as folder:
                executor.set_data(ray.put(task.load_data(folder)))
        yield executor
    finally:
        executor.close()


def _found(sweep: Sweep, flags: Flags) -> tuple[SweepResults | None, list[str]]:
    """The sweep that bears the name already, and what is wrong with the storage itself."""
    problems = preflight.probe(sweep.storage)
    if problems or preflight.name_problems(flags.name):
        return None, problems
    return _read(open_storage(sweep.storage).child(sweep.name)), []


def _read(place: Storage) -> SweepResults | None:
    spec = results.read_spec(place)
    return None if spec is None else SweepResults(place.url, spec, SweepState(journal.read(place)))


def _mixed(sweep: Sweep, flags: Flags, knobs: Any, config: Any, found: SweepResults | None) -> list[str]:
    """What would mix two sweeps under one name."""
    if problems := preflight.check_name(sweep, flags, found.state if found else None):
        return problems
    return preflight.check_same(sweep, found.spec, knobs, config) if found else []


def _room(sweep: Sweep, flags: Flags, usable: bool) -> list[str]:
    """What the cluster, or this machine, can never give; the cluster is joined."""
    if not local_ray.running():
        return local_ray.check_machine(flags)
    return local_ray.connect() or (preflight.check_cluster(flags, sweep) if usable else [])


def _tune_config(chosen: Strategy, sweep: Sweep, knobs: Any) -> tuple[tune.TuneConfig | None, list[str]]:
    """The strategy's TuneConfig, always with a searcher, or what is wrong with what it was given."""
    try:
        if not sweep.space:
            raise BadInput(f"task {sweep.task.name} has an empty search space: give SPACE a domain")
        config = chosen.tune_config(sweep, knobs)
        if config.search_alg is None:
            sweep.refuse_points("it draws at random and learns from no value", values_only=True)
            config.search_alg = Variants(sweep.space, sweep.points, sweep.seed)
        return config, []
    except BadInput as error:
        return None, list(error.problems)
    except (AssertionError, ValueError, TypeError, TuneError) as error:
        # Ray's own checks of a scheduler's or searcher's arguments.
        return None, [f"`{chosen.name}` with {knobs}: {error or 'refused by Ray'}: change the knob"]
