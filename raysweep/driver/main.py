"""A job's command line, and the code it shares with `raysweep.run`: checks everything, then runs the sweep."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from ray import tune
from ray.tune import TuneError

from raysweep import ray_private, sealed
from raysweep.driver import local_ray, preflight, unexpected, warm_start
from raysweep.driver.runner import Runner, code_hash
from raysweep.driver.supervisor import Supervisor
from raysweep.errors import BadInput, RaysweepError
from raysweep.history import resubmit_ticket, results
from raysweep.history.lease import claim
from raysweep.history.repair import repair
from raysweep.history.results import SweepResults
from raysweep.loop.random_grid_search import Variants
from raysweep.spec import task as tasks
from raysweep.spec.flags import Flags, command, default_name, name_problems
from raysweep.spec.initial_points import Point, joined
from raysweep.spec.initial_points import read as read_points
from raysweep.spec.space import forgotten_choices
from raysweep.spec.sweep import (
    NoKnobs,
    Strategy,
    Sweep,
    default_storage,
    knob_problems,
    settle,
    strategy_of,
)
from raysweep.spec.task import Task
from raysweep.storage import open_storage

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


def main(tune_config: Callable[[Sweep, Any], tune.TuneConfig], knobs: type = NoKnobs) -> None:
    """The command line of a job: `raysweep.main(tune_config, Knobs)` is a strategy file's last line.

    The sweep runs under a supervisor, which restarts a driver that died. Exits with 0 if every trial is accounted for,
    1 if more trials failed than allowed, 2 on bad input.
    """
    module = sys.modules[tune_config.__module__]
    name = Path(inspect.getfile(tune_config)).stem
    command_of(strategy_of(module, name), lambda flags: tasks.load(flags.task), f"python jobs/{name}.py")()


def command_of(strategy: Strategy, task_of: Callable[[Flags], Task], usage: str) -> click.Command:
    """A job's command line, see `main`.

    Args:
        strategy: the search and the scheduler.
        task_of: makes or loads what is tuned; raises BadInput.
        usage: how the command is called.
    """

    def body(flags: Flags, values: Any, problems: list[str]) -> None:
        # The name is fixed here, so that a restarted driver finds the sweep. With --resume the user has to give it.
        new_name = (
            default_name(flags.task, strategy.name) if flags.resume == "never" and flags.name is None else flags.name
        )
        named_flags, start = dataclasses.replace(flags, name=new_name), time.monotonic()

        def driver(restarted: bool) -> int:
            if named_flags.name and not restarted:
                resubmit_ticket.write(named_flags.name)  # with the cluster's own keys, and so before the next line
            if code := _exit_code(sealed.unseal, named_flags):
                return code
            current = _restart_flags(named_flags, time.monotonic() - start) if restarted else named_flags
            if resubmit_ticket.life() > 1:
                current = dataclasses.replace(current, retry=None)  # they were tried again before the job was lost
            if restarted or _is_retry(current):
                preflight.wait_for_storage(current.storage or default_storage())
            return _exit_code(lambda: _from_flags(strategy, task_of, current, values, problems), current)

        code = Supervisor(driver).run()
        # A driver also fails because its cluster goes away. If the head survives, it knows of the failure, and the
        # resubmitter removes the ticket; if not, the next head gets the job again.
        if code != FAILED:
            resubmit_ticket.remove()
        sys.exit(code)

    return command(strategy.doc, strategy.knobs, body, usage)


def _is_retry(flags: Flags) -> bool:
    """Whether this may be a retry of a job; the retries of a RayJob cannot be told apart, so each may be one."""
    return resubmit_ticket.life() > 1 or (
        flags.resume != "never" and preflight.is_cluster_storage(flags.storage or default_storage())
    )


def _restart_flags(flags: Flags, seconds: float) -> Flags:
    """The flags of a driver that resumes after earlier ones have run for so many seconds."""
    budget = flags.time_budget and max(flags.time_budget - seconds, 1.0)
    return dataclasses.replace(flags, resume="auto", retry=None, time_budget=budget)


def _exit_code(run: Callable[[], Any], flags: Flags) -> int:
    """Runs a job; its exit code, after what went wrong was printed."""
    try:
        run()
    except RaysweepError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        return error.exit_code
    except KeyboardInterrupt:  # once the loop runs, it ends the sweep in order
        click.echo("error: interrupted", err=True)
        return INTERRUPTED
    except (Exception, SystemExit) as error:
        told = unexpected.describe(error, flags.storage or default_storage(), flags.name)
        click.echo(f"error: {told}", err=True)
        return FAILED
    return 0


def _from_flags(
    strategy: Strategy, task_of: Callable[[Flags], Task], flags: Flags, knobs: Any, problems: list[str]
) -> SweepResults | None:
    try:
        task = task_of(flags)
    except BadInput as error:
        raise BadInput(*problems, *error.problems, *_without_task(strategy, flags)) from None
    points: tuple[Point, ...] = ()
    try:
        points = tuple(read_points(flags.points, task.space)) if flags.points else ()
    except BadInput as error:
        problems = [*problems, *error.problems]
    return check_and_run(strategy, flags, knobs, task, points, problems)


def _without_task(strategy: Strategy, flags: Flags) -> list[str]:
    """All other problems, if the task could not be loaded."""
    placeholder = Task(flags.task, lambda config: None, {}, flags.metric or "", flags.mode or "max", 1)
    sweep = settle(flags, strategy.name, placeholder, ())
    problems = preflight.check_flags(flags, sweep)
    existing, storage_problems = _existing(sweep, flags)
    problems += storage_problems or preflight.check_name(sweep, flags, existing.state if existing else None)
    return problems + _capacity_problems(sweep, flags, storage_usable=not storage_problems)


def check_and_run(
    strategy: Strategy,
    flags: Flags,
    knobs: Any,
    task: Task,
    points: tuple[Point, ...],
    problems: list[str],
    timed: bool = True,
) -> SweepResults | None:
    """Checks and runs a sweep; returns None after a dry run.

    Args:
        strategy: the search and the scheduler.
        flags: the shared flags.
        knobs: the strategy's own flags.
        task: what is tuned.
        points: configurations to try first.
        problems: those found so far.
        timed: whether a dry run also times a few iterations, and says what the sweep would take.

    Raises:
        BadInput: all problems; nothing was started.
        SweepFailed: trials failed beyond `max_failures`, or none reported; in a dry run, one failed, or does not fit.
    """
    sweep = settle(flags, strategy.name, task, points)
    existing, storage_problems = _existing(sweep, flags)
    resumed = existing if flags.resume != "never" else None
    if resumed:
        sweep = dataclasses.replace(sweep, points=joined(resumed.spec.get("points", []), points, sweep.space))
    config, config_problems = config_of(strategy, sweep, knobs)
    said: list[str] = []
    if config is not None and not storage_problems:
        sweep, said, warm_problems = warm_start.warm_started(sweep, flags, config, resumed)
        if sweep.earlier:  # a searcher that has learnt nothing yet, and has the points that came
            config, config_problems = config_of(strategy, sweep, knobs)
        problems = problems + warm_problems
    problems = problems + config_problems + preflight.check_static(flags, sweep, config) + storage_problems
    if config is not None and (draw := config_of(strategy, sweep, knobs)[0]):
        problems += preflight.check_draw(flags, sweep, draw, list(resumed.state.trials.values()) if resumed else [])
    problems += [] if storage_problems else _resume_problems(sweep, flags, knobs, config, existing)
    problems += _capacity_problems(sweep, flags, storage_usable=not storage_problems)
    if problems:
        raise BadInput(*problems)
    assert config is not None
    place = open_storage(sweep.storage).child(sweep.name).patient()
    for note in [*said, *forgotten_choices(sweep.space)]:
        click.echo(note, err=True)
    runner = Runner(strategy, sweep, flags, knobs, config, place)
    if flags.dry_run:
        click.echo(f"dry run: {strategy.name} on {task.name}, {sweep.samples} samples, to {place.url}: not started")
        if timed:
            from raysweep.driver.check import check

            check(runner, lambda other: config_of(strategy, other, knobs)[0])
        return None
    with ray_private.quiet(), runner.opened() as executor, claim(place, click.echo) as lease:
        # Another driver may have changed the sweep before this one got the lease.
        existing = results.find(place)
        if problems := _resume_problems(sweep, flags, knobs, config, existing):
            raise BadInput(*problems)
        if existing and existing.damage:
            for lost in repair(place, lease.term, runner.assembly.total):
                click.echo(f"warning: {lost}", err=True)
            existing = results.find(place)
        code = code_hash(task.train, strategy.tune_config)
        if existing and existing.spec.get("code", code) != code:
            click.echo(
                f"warning: the code of {task.name} or {strategy.name} has changed since {sweep.name} was started"
            )
        return runner.run(executor, lease, existing.state if existing else None)


def _existing(sweep: Sweep, flags: Flags) -> tuple[SweepResults | None, list[str]]:
    """The stored sweep with this name, if there is one, and problems with the storage itself."""
    problems = preflight.probe(sweep.storage)
    if problems or name_problems(flags.name):
        return None, problems
    return results.find(open_storage(sweep.storage).child(sweep.name)), []


def _resume_problems(sweep: Sweep, flags: Flags, knobs: Any, config: Any, existing: SweepResults | None) -> list[str]:
    """Problems that would mix two different sweeps under one name, or continue a damaged one as if it were whole."""
    if problems := preflight.check_name(sweep, flags, existing.state if existing else None):
        return problems
    if existing and existing.damage and not flags.repair:
        return [f"`--resume {flags.resume}`: {each}" for each in existing.damage]
    return preflight.check_same(sweep, existing.spec, knobs, config) if existing else []


def _capacity_problems(sweep: Sweep, flags: Flags, storage_usable: bool) -> list[str]:
    """Joins the cluster, if there is one; problems with requested resources that it, or this machine, does not have."""
    if not local_ray.running():
        return local_ray.check_machine(sweep)
    return local_ray.connect() or (preflight.check_cluster(flags, sweep) if storage_usable else [])


def config_of(strategy: Strategy, sweep: Sweep, knobs: Any) -> tuple[tune.TuneConfig | None, list[str]]:
    """The strategy's TuneConfig, always with a searcher, or the problems with its arguments."""
    problems = knob_problems(sweep, knobs)
    try:
        if not sweep.space:
            raise BadInput(f"task {sweep.task.name} has an empty search space: add a domain to SPACE")
        config = strategy.tune_config(sweep, knobs)
        if config.search_alg is None:
            sweep.refuse_points("it samples at random and learns from no value", values_only=True)
            config.search_alg = Variants(sweep.space, sweep.points, sweep.seed)
        return config, problems
    except BadInput as error:
        return None, [*problems, *error.problems]
    except ArithmeticError:
        if not problems:  # else it comes of a knob out of its range
            raise
        return None, problems
    except (AssertionError, ValueError, TypeError, TuneError) as error:
        # Ray's own checks of a scheduler's or searcher's arguments.
        return None, problems or [f"`{strategy.name}` with {knobs}: {error or 'refused by Ray'}: change the knob"]
