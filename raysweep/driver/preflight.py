"""Preflight: everything that can be known to be wrong before a trial starts, told at once.

`check_static` needs neither a cluster nor the data, `probe` talks to the storage and `check_cluster` to Ray.
Each returns problems, one sentence each: the argument in backticks, the value, the rule and the fix.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import uuid
from collections.abc import Callable
from typing import Any

import click
import ray
from ray import cloudpickle
from ray.tune.schedulers import PopulationBasedTraining, ResourceChangingScheduler
from ray.tune.search import Searcher
from ray.util import inspect_serializability
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from raysweep import env
from raysweep.driver import capacity
from raysweep.errors import BadInput, StorageError, Unavailable
from raysweep.history.sweep_state import SweepState
from raysweep.loop.assemble import SYNCHRONOUS
from raysweep.loop.random_grid_search import Variants
from raysweep.spec.flags import Flags
from raysweep.spec.space import describe
from raysweep.spec.sweep import Sweep
from raysweep.spec.task import Reports, reports
from raysweep.storage import FolderStorage, open_storage
from raysweep.storage.s3 import OUTAGE_SECONDS
from raysweep.values import AUTOMATIC_METRICS

OWN_STORE_S = 90.0  # where the node is busy, its network policies let a new pod through seconds late
SHARED_SECONDS = 30.0  # a node may have to start a process first, to look for a file


def check_static(flags: Flags, sweep: Sweep, config: Any) -> list[str]:
    """What is wrong with the flags, the task and the strategy's TuneConfig, which is None if it could not be made."""
    read = reports(sweep.task.train)
    problems = check_flags(flags, sweep) + _metric(sweep, read) + _pickles(sweep)
    return problems + (_pair(flags, sweep, config, read) if config is not None else [])


def check_flags(flags: Flags, sweep: Sweep) -> list[str]:
    """What is wrong with the flags, whatever the task is."""
    problems = _numbers(flags, sweep) + name_problems(flags.name)
    if flags.name is None and flags.resume != "never":
        problems.append(f"`--resume {flags.resume}` needs `--name`: name the sweep to continue")
    return problems


def _numbers(flags: Flags, sweep: Sweep) -> list[str]:
    wanted = {
        "--samples": (sweep.samples, 1),
        "--max-iterations": (sweep.max_iterations, 1),
        "--concurrency": (flags.concurrency, 1),
        "--max-failures": (flags.max_failures, 0),
        "--cpus-per-trial": (flags.cpus_per_trial, 0),
        "--gpus-per-trial": (flags.gpus_per_trial, 0),
    }
    problems = [
        f"`{flag} {value}`: at least {least} is wanted"
        for flag, (value, least) in wanted.items()
        if value is not None and not least <= value < math.inf
    ]
    limits = {
        "trial_timeout": flags.trial_timeout,
        "report_timeout": flags.report_timeout,
        "cleanup_timeout": flags.cleanup_timeout,
        "time_budget": flags.time_budget,
    }
    for flag, seconds in ((f"--{name.replace('_', '-')}", seconds) for name, seconds in limits.items()):
        if seconds is not None and not seconds > 0:
            problems.append(f"`{flag} {seconds}`: more than 0 seconds are wanted")
    if 0 < sweep.samples < (tried := sum(point.value is None for point in sweep.points)):
        problems.append(
            f"`--samples {sweep.samples}`: there are {tried} points to try: take --samples {tried}, or fewer --points"
        )
    if not 0 <= sweep.seed < 2**32:
        problems.append(f"`--seed {sweep.seed}`: 0 to 4294967295 is wanted, since numpy takes no other")
    if flags.cpus_per_trial == flags.gpus_per_trial == 0:
        problems.append("`--cpus-per-trial 0`: a trial without CPU and GPU has no place: ask for one of them")
    for flag, share in (
        ("--cpus-per-trial", flags.cpus_per_trial),
        ("--gpus-per-trial", flags.gpus_per_trial),
    ):
        if 1 < share < math.inf and share != int(share):
            problems.append(
                f"`{flag} {share}`: Ray gives a fraction of one, or whole ones: take {int(share)} or {int(share) + 1}"
            )
    return problems


def _metric(sweep: Sweep, read: Reports) -> list[str]:
    if sweep.mode not in ("max", "min"):
        return [f"`--mode {sweep.mode}`: max or min is wanted"]
    known = (*(read.metrics or ()), *AUTOMATIC_METRICS)
    if read.metrics is None or sweep.metric in known:
        return []
    return [f"`--metric {sweep.metric}`: task {sweep.task.name} reports {', '.join(known)}: name one of them"]


def _pickles(sweep: Sweep) -> list[str]:
    try:
        cloudpickle.dumps(sweep.task.train)
    except Exception:
        _, failures = inspect_serializability(sweep.task.train, print_file=_Quiet())
        names = ", ".join(sorted({f"`{failure.path[-1]}`" for failure in failures})) or "something it captures"
        return [
            f"`train` of task {sweep.task.name} cannot be sent to a worker: {names} cannot be pickled:"
            " make it inside `train`"
        ]
    return []


class _Quiet:
    """A file that keeps nothing: Ray prints its search for the culprit as a tree."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


def _pair(flags: Flags, sweep: Sweep, config: Any, read: Reports) -> list[str]:
    problems = []
    scheduler, search = config.scheduler, config.search_alg
    if isinstance(scheduler, ResourceChangingScheduler):
        problems.append(
            f"`{sweep.strategy}` has a ResourceChangingScheduler, which asks Ray Tune's own controller what is free:"
            " here a trial keeps its share: choose --cpus-per-trial and --gpus-per-trial"
        )
    if isinstance(scheduler, PopulationBasedTraining):
        if isinstance(search, Searcher) and not isinstance(search, Variants):
            problems.append(
                f"`{sweep.strategy}` pairs {type(scheduler).__name__} with {type(search).__name__}: population based"
                " training changes configurations behind the searcher's back: leave search_alg out"
            )
        if sweep.samples < 2:
            problems.append(f"`--samples {sweep.samples}`: a population has at least 2 trials")
    if isinstance(scheduler, SYNCHRONOUS) and flags.concurrency is not None:
        problems.append(
            f"`--concurrency {flags.concurrency}`: {sweep.strategy} decides over all {sweep.samples} trials together,"
            " so all of them are begun: choose how many with --samples"
        )
    if isinstance(scheduler, SYNCHRONOUS) and read.state is False:
        problems.append(
            f"`{sweep.strategy}` pauses trials and continues them, and `train` of task {sweep.task.name} saves"
            " nothing: pass state= to raysweep.report and take it up with raysweep.resume()"
        )
    return problems


def name_problems(name: str | None) -> list[str]:
    """What is wrong with a sweep's name: it is one folder of the storage."""
    if name is None or re.fullmatch(r"[\w][\w.-]*", name):
        return []
    return [f"`--name {name}`: a name is one folder of the storage: use letters, digits, - and _"]


def check_name(sweep: Sweep, flags: Flags, state: SweepState | None) -> list[str]:
    """Whether the sweep's name may be used; `state` is the journal of the sweep that has it. The probe comes first."""
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
    """What a sweep that is continued was begun with, and is not asked for with now; `spec` is its sweep.json."""
    asked = {
        "strategy": sweep.strategy,
        "task": sweep.task.name,
        "seed": sweep.seed,
        "max_iterations": sweep.max_iterations,
        # What a strategy adds to the first metric and mode is a knob of its own.
        "metrics": [sweep.metric, *spec.get("metrics", [])[1:]],
        "modes": [sweep.mode, *spec.get("modes", [])[1:]],
        "space": describe(sweep.space),
    }
    begun = {key: spec.get(key) for key in asked}
    if spec.get("strategy") == sweep.strategy:
        now, then = json.loads(json.dumps(dataclasses.asdict(knobs))), spec.get("knobs", {})
        asked |= {f"--{key.replace('_', '-')}": value for key, value in now.items()}
        begun |= {f"--{key.replace('_', '-')}": then.get(key, value) for key, value in now.items()}
    together = isinstance(getattr(config, "scheduler", None), SYNCHRONOUS) and spec["samples"] != sweep.samples
    return [
        f"sweep `{sweep.name}` was begun with {key} {begun[key]}, not {value}:"
        f" a sweep keeps its {key}: give the same again, or another --name"
        for key, value in asked.items()
        if begun[key] != value
    ] + together * [
        f"sweep `{sweep.name}` was begun with samples {spec['samples']}, not {sweep.samples}: {sweep.strategy} decides"
        " over all its trials together, and newcomers would only meet each other: give the same, or another --name"
    ]


def probe(storage: str) -> list[str]:
    """What is wrong with the storage itself: it is written to, read back and cleaned.

    A job waits for the store of its own cluster, which may have begun a moment ago, or not be known yet on this node.
    """
    try:
        _wait_for(storage, OWN_STORE_S if is_own(storage) else 0.0)
    except StorageError as error:
        return [f"`--storage {storage}`: {error}"]
    except BadInput as error:
        return list(error.problems)
    return []


def is_own(storage: str) -> bool:
    """Whether this is a job, and that is the storage of its cluster."""
    return env.RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ and storage == os.environ.get(env.RAYSWEEP_STORAGE)


def sit_out(storage: str) -> None:
    """Waits for a store that is away, as a sweep that runs does: for a driver that takes one up again."""

    def tell(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            click.echo(f"the storage {storage} is away: waiting {OUTAGE_SECONDS:g} s for it")

    with contextlib.suppress(StorageError, BadInput):  # the checks tell
        _wait_for(storage, OUTAGE_SECONDS, tell)


def _wait_for(storage: str, seconds: float, tell: Callable[[RetryCallState], None] | None = None) -> None:
    patiently = Retrying(
        retry=retry_if_exception_type(Unavailable),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(1.0),
        before_sleep=tell,
        reraise=True,
    )
    patiently(open_storage(storage).probe)


def check_cluster(flags: Flags, sweep: Sweep) -> list[str]:
    """What the connected cluster can never give: more than any node has, or a node-local folder as storage."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    problems = []
    for flag, kind, wanted in (
        ("--cpus-per-trial", "CPU", flags.cpus_per_trial),
        ("--gpus-per-trial", "GPU", flags.gpus_per_trial),
    ):
        most = capacity.largest_node(kind)
        if wanted > most:
            problems.append(
                f"`{flag} {wanted:g}`: the largest node of the cluster has {most:g} {kind}: ask for at most that"
            )
    cpus, gpus = flags.cpus_per_trial, flags.gpus_per_trial
    if not problems and not capacity.node_for(cpus, gpus):
        problems.append(
            f"`--cpus-per-trial {cpus:g} --gpus-per-trial {gpus:g}`: no node of the cluster has both: there are, or may"
            f" be, nodes with {capacity.described()}: ask for what one of them has"
        )
    return problems + _shared(sweep, nodes)


def _shared(sweep: Sweep, nodes: list[dict[str, Any]]) -> list[str]:
    """On several nodes a folder must be the same folder everywhere: a probe of the driver is looked for on each."""
    storage = open_storage(sweep.storage)
    here = ray.get_runtime_context().get_node_id()
    others = [node["NodeID"] for node in nodes if node["NodeID"] != here and node["Resources"].get("CPU", 0) > 0]
    if isinstance(storage, FolderStorage) and not others and capacity.groups():
        return [
            f"`--storage {sweep.storage}`: a folder of this node, which the nodes that the cluster grows by will not"
            " see: use s3://bucket/prefix"
        ]
    if not isinstance(storage, FolderStorage) or not others:
        return []
    key = f".shared-{uuid.uuid4().hex}"
    storage.put(key, b"")
    try:
        look = ray.remote(num_cpus=0)(lambda place: place.exists(key))
        placed = [look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=False)) for n in others]
        seen = [task.remote(storage) for task in placed]
        ready, silent = ray.wait(seen, num_returns=len(seen), timeout=SHARED_SECONDS)
        if not silent and all(ray.get(ready)):
            return []
    finally:
        storage.delete(key)
    return [
        f"`--storage {sweep.storage}`: a folder of this node, which {len(others)} other node(s) of the cluster do not"
        " see: use s3://bucket/prefix, or a folder that all nodes mount"
    ]
