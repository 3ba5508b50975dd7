"""How a sweep is asked for: `main` for a job's command line, `run` for Python. Both check everything, then run."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from ray import tune
from ray.tune import TuneError

from raysweep import journal, local_ray, preflight, results
from raysweep import task as tasks
from raysweep.errors import BadInput, RaysweepError
from raysweep.flags import Flags, command, default_name, nearest
from raysweep.lease import claim
from raysweep.points import Point, parse
from raysweep.points import read as read_points
from raysweep.results import SweepResults
from raysweep.runner import Runner
from raysweep.state import SweepState
from raysweep.storage import Storage, open_storage
from raysweep.supervisor import Supervisor
from raysweep.sweep import NoKnobs, Strategy, Sweep, knobs_of, settle, strategy, strategy_of
from raysweep.task import Task
from raysweep.variants import Variants


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
        named = dataclasses.replace(flags, name=flags.name or fresh)

        def driver(again: bool) -> int:
            asked = dataclasses.replace(named, resume="auto") if again else named
            return _exit_code(lambda: _from_flags(chosen, asked, values, problems))

        sys.exit(Supervisor(driver).run())

    command(chosen.doc, knobs, body, f"python jobs/{name}.py")()


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
        points = tuple(read_points(flags.points, task.space)) if flags.points else ()
    except BadInput as error:
        raise BadInput(*problems, *error.problems) from None
    return _run(chosen, flags, knobs, task, points, problems)


def run(
    strategy_name: str,
    task: str | Task | Callable[..., None],
    space: dict[str, Any] | None = None,
    *,
    metric: str | None = None,
    mode: str | None = None,
    points: list[dict[str, Any]] | None = None,
    data: Any = None,
    mutable: tuple[str, ...] | None = None,
    storage: str | Path | None = None,
    knobs: dict[str, Any] | None = None,
    **flags: Any,
) -> SweepResults:
    """Runs a sweep from Python or a notebook; the same as a job.

    Args:
        strategy_name: a file of jobs/, such as "asha".
        task: the name of a task, or a training function `train(config)` or `train(config, data)`.
        space: parameter -> Ray's domain; for a training function.
        metric: what to optimise.
        mode: "max" or "min".
        points: configurations to try first, or `{"config": …, "value": …}` with a known value.
        data: handed to each trial, through the object store; for a training function.
        mutable: parameters that PBT may change; for a training function.
        storage: folder or s3://bucket/prefix.
        knobs: the strategy's own knobs.
        **flags: the other flags of a job: samples, max_iterations, cpus_per_trial, gpus_per_trial, seed, name, …

    Returns:
        The results: `.best`, `.table` (a pandas DataFrame), `.load()` (the best trial's state).

    Raises:
        BadInput: something is wrong; nothing was started.
        SweepFailed: trials failed beyond `max_failures`, or none reported.
    """
    chosen = strategy(strategy_name)
    known = [field.name for field in dataclasses.fields(Flags)]
    if wrong := [key for key in flags if key not in known]:
        raise BadInput(*(f"`{key}` is not an argument of run{nearest(key, known)}" for key in wrong))
    given = _task_of(task, space, metric, mode, flags, data, mutable)
    place = str(storage) if storage is not None else None
    asked = Flags(task=given.name, metric=metric, mode=mode, storage=place, **flags)
    parsed = tuple(parse(points, given.space)) if points else ()
    outcome = _run(chosen, asked, knobs_of(chosen, knobs or {}), given, parsed, [])
    if outcome is None:
        raise BadInput("`dry_run`: everything is right, nothing was started")
    return outcome


def _task_of(
    task: Any,
    space: Any,
    metric: str | None,
    mode: str | None,
    flags: dict[str, Any],
    data: Any,
    mutable: Any,
) -> Task:
    if isinstance(task, Task):
        return task
    if isinstance(task, str):
        return tasks.load(task)
    needed = {"space": space, "metric": metric, "mode": mode, "max_iterations": flags.get("max_iterations")}
    if missing := [f"`{name}` is wanted with a training function" for name, value in needed.items() if value is None]:
        raise BadInput(*missing)
    assert metric is not None
    assert mode is not None
    load = (lambda root: data) if data is not None else None
    return Task(task.__name__, task, space, metric, mode, flags["max_iterations"], mutable, load)


def _run(
    chosen: Strategy, flags: Flags, knobs: Any, task: Task, points: tuple[Point, ...], problems: list[str]
) -> SweepResults | None:
    sweep = settle(flags, chosen.name, task, points)
    config, refused = _tune_config(chosen, sweep, knobs)
    stored = _check_place(sweep, flags)
    problems = problems + refused + preflight.check_static(flags, sweep, config) + stored
    connected = local_ray.connect() if local_ray.running() else False
    problems += preflight.check_cluster(flags, sweep) if connected and not stored else []
    problems += [] if connected else local_ray.check_machine(flags)
    if problems:
        raise BadInput(*problems)
    assert config is not None
    place = open_storage(sweep.storage).child(sweep.name).patient()
    if flags.dry_run:
        click.echo(f"dry run: {chosen.name} on {task.name}, {sweep.samples} samples, to {place.url}: nothing started")
        return None
    with claim(place, click.echo) as lease:
        # Another driver may have been here since.
        state = _state(place)
        if problems := preflight.check_storage(sweep, flags, state):
            raise BadInput(*problems)
        if not connected:
            local_ray.start()
        return Runner(chosen, sweep, flags, knobs, config, place, lease, state).run()


def _check_place(sweep: Sweep, flags: Flags) -> list[str]:
    """What is wrong with the storage and the name there."""
    problems = preflight.probe(sweep.storage) + preflight.name_problems(flags.name)
    if problems:
        return problems
    return preflight.check_storage(sweep, flags, _state(open_storage(sweep.storage).child(sweep.name)))


def _state(place: Storage) -> SweepState | None:
    """The sweep that bears the name already."""
    return SweepState(journal.read(place)) if results.read_spec(place) is not None else None


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
