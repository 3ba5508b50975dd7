"""Checks before the first trial starts; all problems are reported at once.

`check_static` needs neither a cluster nor the data, `probe` connects to the storage and `check_cluster` to Ray.
Each returns a list of problems, one sentence each: the argument in backticks, the value, the rule and the fix.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import ray
from ray import cloudpickle
from ray.tune.schedulers import PopulationBasedTraining, ResourceChangingScheduler
from ray.tune.search import Searcher
from ray.util import inspect_serializability
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from raysweep import env, user_code
from raysweep.driver import capacity
from raysweep.errors import BadInput, StorageError, Unavailable
from raysweep.history.sweep_state import SweepState, TrialRecord
from raysweep.loop.assemble import SYNCHRONOUS, Assembly, objective_of
from raysweep.loop.random_grid_search import Variants
from raysweep.loop.searcher import Resumable
from raysweep.spec import function, prices, script_command
from raysweep.spec.flags import Flags, name_problems
from raysweep.spec.reports import Reports, reports
from raysweep.spec.resources import request_of
from raysweep.spec.space import describe
from raysweep.spec.space_checks import check_space, draw_problems
from raysweep.spec.sweep import Sweep
from raysweep.spec.task import Task
from raysweep.storage import FolderStorage, open_storage
from raysweep.storage.s3 import OUTAGE_SECONDS
from raysweep.trial.metrics import check_metric_name
from raysweep.trial.script import Script
from raysweep.values import AUTOMATIC_METRICS

OWN_STORE_S = 90.0  # longest wait for the cluster's own store; on a busy node, network policies admit a new pod late
SHARED_SECONDS = 30.0  # a node may have to start a process before it can look for a file


def check_static(flags: Flags, sweep: Sweep, config: Any) -> list[str]:
    """Problems with the flags, the task and the strategy's TuneConfig, which is None if it could not be created."""
    wrong = _function_problems(sweep.task) + _request_problems(flags, sweep)
    task_reports = Reports() if wrong else reports(sweep.task.train)
    wrong = wrong or _metric_problems(sweep, config, task_reports) + _pickle_problems(sweep)
    problems = check_flags(flags, sweep) + wrong
    return problems + (_strategy_problems(flags, sweep, config, task_reports) if config is not None else [])


def check_flags(flags: Flags, sweep: Sweep) -> list[str]:
    """Problems with the flags that do not depend on the task."""
    problems = _number_problems(flags, sweep) + name_problems(flags.name)
    if flags.name is None and flags.resume != "never":
        problems.append(f"`--resume {flags.resume}` needs `--name`: name the sweep to continue")
    if flags.retry is not None and flags.resume == "never":
        problems.append(f"`--retry {flags.retry}` is for a sweep that is continued: add --resume must")
    return problems + prices.problems(Path.cwd(), flags.cost_budget, sweep.cpus, sweep.gpus)


def _number_problems(flags: Flags, sweep: Sweep) -> list[str]:
    """Problems with combinations of numbers; `checked` has checked each of them alone."""
    problems = []
    if sweep.samples < (points := sum(point.value is None for point in sweep.points)):
        problems.append(
            f"`--samples {sweep.samples}`: there are {points} points to try: use --samples {points}, or fewer --points"
        )
    if sweep.cpus == sweep.gpus == 0:
        problems.append("`--cpus-per-trial 0`: a trial without CPU and GPU cannot be placed: ask for one of them")
    for flag, share in (("--cpus-per-trial", sweep.cpus), ("--gpus-per-trial", sweep.gpus)):
        if share > 1 and share != int(share):
            problems.append(
                f"`{flag} {share}`: must be a fraction of one, or a whole number: use {int(share)} or {int(share) + 1}"
            )
    return problems


def _function_problems(task: Task) -> list[str]:
    problems = [f"`train` of task {task.name} {problem}" for problem in function.problems(task.train)]
    if isinstance(task.train, Script):
        problems += script_command.problems(task.train.command, task.space)
    return problems


def _request_problems(flags: Flags, sweep: Sweep) -> list[str]:
    if flags.cpus_per_trial is not None or flags.gpus_per_trial is not None:
        return []
    problem = request_of(sweep.task.train, sweep.space).problem
    return [f"`train` of task {sweep.task.name} {problem}"] if problem else []


def _metric_problems(sweep: Sweep, config: Any, task_reports: Reports) -> list[str]:
    """Problems with what is optimised, and with the names of what the task reports."""
    if not sweep.metric:  # there is none: it was refused already
        return []
    reported, where = task_reports.metrics, f"task {sweep.task.name}"
    further = objective_of(getattr(config, "search_alg", None), sweep).metrics[1:]
    optimised = {sweep.metric: f"`--metric {sweep.metric}`"}
    optimised |= {name: f"`{sweep.strategy}` optimises `{name}` too" for name in further if name != sweep.metric}
    problems = [f"{flag}: {why}" for name, flag in optimised.items() if (why := _name_problem(name, AUTOMATIC_METRICS))]
    problems += [f"{where}: {why}" for name in reported or () if (why := _name_problem(name))]
    if problems or reported is None:
        return problems
    available = (*reported, *AUTOMATIC_METRICS)
    # What is nested in a report to Ray Tune has its path as its name.
    unknown = [f for name, f in optimised.items() if not {name, name.partition("/")[0]} & {*available}]
    return [f"{flag}: {where} reports {', '.join(available)}: name one of them" for flag in unknown]


def _name_problem(name: Any, allowed: tuple[str, ...] = ()) -> str | None:
    """Why `report` would refuse a metric of this name, if it would."""
    try:
        if name not in allowed:
            check_metric_name(name)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def _pickle_problems(sweep: Sweep) -> list[str]:
    try:
        cloudpickle.dumps(sweep.task.train)
    except Exception:
        _, failures = inspect_serializability(sweep.task.train, print_file=_NullFile())
        names = ", ".join(sorted({f"`{failure.path[-1]}`" for failure in failures})) or "something it captures"
        return [
            f"`train` of task {sweep.task.name} cannot be sent to a worker: {names} cannot be pickled:"
            " create it inside `train`"
        ]
    return []


class _NullFile:
    """A file that discards everything: Ray prints its search for the object that cannot be pickled."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


def _strategy_problems(flags: Flags, sweep: Sweep, config: Any, task_reports: Reports) -> list[str]:
    problems = []
    scheduler, search = config.scheduler, config.search_alg
    if isinstance(scheduler, ResourceChangingScheduler):
        problems.append(
            f"`{sweep.strategy}` has a ResourceChangingScheduler, which needs Ray Tune's own controller; here"
            " the resources of a trial are fixed: choose --cpus-per-trial and --gpus-per-trial"
        )
    if isinstance(scheduler, PopulationBasedTraining):
        if isinstance(search, Searcher) and not isinstance(search, Variants):
            problems.append(
                f"`{sweep.strategy}` pairs {type(scheduler).__name__} with {type(search).__name__}: population based"
                " training changes configurations without the searcher's knowledge: leave search_alg out"
            )
        if sweep.samples < 2:
            problems.append(f"`--samples {sweep.samples}`: must be at least 2, the smallest population")
    if isinstance(scheduler, SYNCHRONOUS) and flags.concurrency is not None:
        problems.append(
            f"`--concurrency {flags.concurrency}`: {sweep.strategy} compares all {sweep.samples} trials with each other"
            " and so starts all of them: leave --concurrency out, and choose their number with --samples"
        )
    if isinstance(scheduler, SYNCHRONOUS) and task_reports.state is False:
        problems.append(
            f"`{sweep.strategy}` pauses trials and continues them, and `train` of task {sweep.task.name} saves"
            " nothing: pass state= to raysweep.report and load it with raysweep.resume(), or checkpoint= and use"
            " raysweep.resume_folder()"
        )
    return problems


def check_draw(flags: Flags, sweep: Sweep, config: Any, adopted: list[TrialRecord]) -> list[str]:
    """Problems with the space that a first configuration shows: it is drawn, written as JSON, restored and pickled.

    Args:
        flags: of the sweep.
        sweep: its settings.
        config: the strategy's TuneConfig, made for this draw: its searcher goes on from it.
        adopted: the trials of a sweep to resume.
    """
    problems = check_space(sweep.space)
    if problems:
        return problems
    try:
        assembly = Assembly(config, sweep, flags)
        searcher, left = assembly.searcher, assembly.total - len(adopted)
        if isinstance(searcher, Resumable):
            searcher.begin(adopted if sweep.points else [])
            if adopted and searcher.waiting > left:
                return [
                    f"`--points`: {searcher.waiting} are new, and {max(left, 0)} of the {assembly.total} trials are"
                    f" still to be drawn: use --samples {sweep.samples + searcher.waiting - left}"
                ]
        drawn = searcher.suggest(f"{len(adopted):05d}")
        return draw_problems(sweep.space, drawn) if isinstance(drawn, dict) else []
    except Exception as error:
        cause = error.__context__ or error  # Ray wraps what a `sample_from` raised
        place = user_code.place_in(cause.__traceback__)
        reason = f"{type(cause).__name__}: {cause}" + (f" at {place}" if place else "")
        return [f"`{sweep.strategy}` cannot draw a configuration of this space: {reason}"]


def check_name(sweep: Sweep, flags: Flags, state: SweepState | None) -> list[str]:
    """Problems with using this name; `state` is that of the sweep that has it already. Call `probe` first."""
    if state is None:
        missing = f"`--resume must`: there is no sweep `{sweep.name}` in {sweep.storage}: check --name and --storage"
        return [missing] if flags.resume == "must" else []
    if flags.resume != "never":
        return []
    done, total = state.count("finished", "stopped"), len(state.trials)
    return [
        f"sweep `{sweep.name}` exists in {sweep.storage} ({total} trials, {done} finished):"
        " continue it with --resume must, or choose another --name"
    ]


def check_same(sweep: Sweep, spec: dict[str, Any], knobs: Any, config: Any) -> list[str]:
    """The settings of a resumed sweep that differ from those it was started with; `spec` is its sweep.json."""
    objective = objective_of(getattr(config, "search_alg", None), sweep)
    # Without a TuneConfig, further metrics and modes are known only as knobs of the strategy, compared below.
    missing = {key: spec.get(key, [])[1:] if config is None else [] for key in ("metrics", "modes")}
    current = {
        "strategy": sweep.strategy,
        "task": sweep.task.name,
        "seed": sweep.seed,
        "max_iterations": sweep.max_iterations,
        "metrics": [*objective.metrics, *missing["metrics"]],
        "modes": [*objective.modes, *missing["modes"]],
        "space": describe(sweep.space),
    }
    original = {key: spec.get(key, value) for key, value in current.items()}  # a damaged one may lack some
    if spec.get("strategy") == sweep.strategy:
        new_knobs, old_knobs = json.loads(json.dumps(dataclasses.asdict(knobs))), spec.get("knobs", {})
        current |= {f"--{key.replace('_', '-')}": value for key, value in new_knobs.items()}
        original |= {f"--{key.replace('_', '-')}": old_knobs.get(key, value) for key, value in new_knobs.items()}
    samples = spec.get("samples", sweep.samples)
    resized = isinstance(getattr(config, "scheduler", None), SYNCHRONOUS) and samples != sweep.samples
    return [
        f"sweep `{sweep.name}` was started with {key} {original[key]}, not {value}:"
        f" a sweep keeps its {key}: give the same again, or another --name"
        for key, value in current.items()
        if original[key] != value
    ] + resized * [
        f"sweep `{sweep.name}` was started with samples {samples}, not {sweep.samples}: {sweep.strategy}"
        " compares all its trials with each other, and new ones would come too late: give the same, or another --name"
    ]


def probe(storage: str) -> list[str]:
    """Problems with the storage itself: writes an object, reads it back and deletes it.

    A job waits for the store of its own cluster, which may have just started, or not be reachable from this node yet.
    """
    try:
        _retry_probe(storage, OWN_STORE_S if is_cluster_storage(storage) else 0.0)
    except StorageError as error:
        return [f"`--storage {storage}`: {error}"]
    except BadInput as error:
        return list(error.problems)
    return []


def is_cluster_storage(storage: str) -> bool:
    """Whether this process is a job of a cluster whose own storage this is."""
    return env.RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ and storage == os.environ.get(env.RAYSWEEP_STORAGE)


def wait_for_storage(storage: str) -> None:
    """Waits up to 10 minutes for an unavailable storage, as a running sweep does; for a driver that resumes one."""

    def notify(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            click.echo(f"the storage {storage} is unavailable: waiting up to {OUTAGE_SECONDS:g} s for it")

    with contextlib.suppress(StorageError, BadInput):  # `probe` will report it
        _retry_probe(storage, OUTAGE_SECONDS, notify)


def _retry_probe(storage: str, seconds: float, notify: Callable[[RetryCallState], None] | None = None) -> None:
    retry = Retrying(
        retry=retry_if_exception_type(Unavailable),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(1.0),
        before_sleep=notify,
        reraise=True,
    )
    retry(open_storage(storage).probe)


def check_cluster(flags: Flags, sweep: Sweep) -> list[str]:
    """Problems on the connected cluster: a trial larger than every node, or a node's local folder as storage."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    problems = []
    for flag, kind, share in (
        ("--cpus-per-trial", "CPU", sweep.cpus),
        ("--gpus-per-trial", "GPU", sweep.gpus),
    ):
        most = capacity.largest_node(kind)
        if share > most:
            problems.append(
                f"`{flag} {share:g}`: the largest node of the cluster has {most:g} {kind}: ask for at most that"
            )
    cpus, gpus = sweep.cpus, sweep.gpus
    if not problems and not capacity.fits_on_a_node(cpus, gpus):
        problems.append(
            f"`--cpus-per-trial {cpus:g} --gpus-per-trial {gpus:g}`: no node of the cluster has both: it has, or may"
            f" add, nodes with {capacity.describe_nodes()}: ask for what one of them has"
        )
    if not problems and not capacity.max_trials(cpus, gpus, sweep.workers):
        problems.append(
            f"`--workers-per-trial {sweep.workers}`: the cluster has, or may add, room for"
            f" {capacity.max_trials(cpus, gpus)} workers of {capacity.describe(cpus, gpus)}: ask for at most that, or"
            " for less of each"
        )
    return problems + _folder_problems(sweep, nodes)


def _folder_problems(sweep: Sweep, nodes: list[dict[str, Any]]) -> list[str]:
    """Checks that all nodes share the folder: the driver writes a file, and each node looks for it."""
    storage = open_storage(sweep.storage)
    here = ray.get_runtime_context().get_node_id()
    others = [node["NodeID"] for node in nodes if node["NodeID"] != here and node["Resources"].get("CPU", 0) > 0]
    if isinstance(storage, FolderStorage) and not others and capacity.groups():
        return [
            f"`--storage {sweep.storage}`: a folder of this node, which the nodes that the cluster adds will not"
            " see: use s3://bucket/prefix"
        ]
    if not isinstance(storage, FolderStorage) or not others:
        return []
    key = f".shared-{uuid.uuid4().hex}"
    storage.put(key, b"")
    try:
        has_file = ray.remote(num_cpus=0)(lambda place: place.exists(key))
        placed = [has_file.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=False)) for n in others]
        answers = [task.remote(storage) for task in placed]
        ready, pending = ray.wait(answers, num_returns=len(answers), timeout=SHARED_SECONDS)
        if not pending and all(ray.get(ready)):
            return []
    finally:
        storage.delete(key)
    return [
        f"`--storage {sweep.storage}`: a folder of this node, which {len(others)} other node(s) of the cluster do not"
        " see: use s3://bucket/prefix, or a folder that all nodes mount"
    ]
