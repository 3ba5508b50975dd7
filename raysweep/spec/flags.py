"""The flags that every job has, and how a dataclass becomes a command line.

`Flags` is the only place that defines a shared flag: its name, type, default and help. A strategy's own knobs are a
dataclass of the same kind in its file. Both become `click` options here.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import time
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import click

from raysweep.spec.rules import check, rule
from raysweep.values import is_number

# The ways in which a trial can fail for good; `loop.failures` has the table.
KINDS = ("exception", "unreported", "nan", "timeout", "hang", "lost", "storage", "full", "memory", "gpu_memory")
METAVARS = {int: "INTEGER", float: "FLOAT", str: "TEXT", Path: "FILE"}

Limit: TypeAlias = float | str | Callable[[Any, Any], float]
LONGEST_S = 1e9  # 31 years, which Python's timers can still hold
MOST = 10**9  # trials or iterations, with which the schedulers can still compute
MOST_WORKERS = 10_000  # of one trial: more than any cluster of Ray's has nodes
MAX_NAME_BYTES = 200  # a folder's name may have 255; jobs, logs and the like have a sweep's name with more behind it

T = TypeVar("T")


def knob(default: T, help: str, choices: tuple[str, ...] | None = None, **limits: Limit) -> T:
    """One field of a flags or knobs dataclass.

    Args:
        default: its value if none is given; it is always allowed, even outside of the limits.
        help: its text in `--help`.
        choices: all values that are allowed.
        **limits: of a number: `ge` and `le` (at least, at most), `gt` and `lt` (more, less than). Each is a number, the
            name of one that the sweep has, such as "max_iterations", or a function (sweep, knobs) -> number; of a
            text: `min_length`.
    """
    field: T = dataclasses.field(default=default, metadata={"help": help, "choices": choices, "limits": limits})
    return field


@dataclass(frozen=True)
class Flags:
    """The flags that all strategies share. A test freezes the list."""

    task: str = knob("digits", "What to tune: a file of tasks/, or your own module such as mypkg.train.", min_length=1)
    data: str | None = knob(
        None, "Folder with the task's data, or s3://bucket/prefix. Default: the task's own source.", min_length=1
    )
    name: str | None = knob(None, "Name of the sweep in the storage. Default: task, strategy and time.")
    storage: str | None = knob(
        None, "A folder or s3://bucket/prefix. Default: $RAYSWEEP_STORAGE, else the folder runs.", min_length=1
    )
    samples: int | None = knob(
        None, "How many trials (grid: how many times the grid). Default: 20, grid 1.", ge=1, le=MOST
    )
    max_iterations: int | None = knob(
        None, "Iterations a trial may run. Default: the task's MAX_ITERATIONS.", ge=1, le=MOST
    )
    metric: str | None = knob(None, "What to optimise. Default: the task's METRIC.", min_length=1)
    mode: str | None = knob(None, "max or min. Default: the task's MODE.", ("max", "min"))
    points: Path | None = knob(None, "YAML or JSON file of configurations to try first.")
    warm_start: tuple[str, ...] = knob(
        (), "An earlier sweep to learn from: its name, or s3://bucket/prefix/NAME. May be given several times."
    )
    seed: int = knob(0, "Seeds the search and the scheduler: the same seed gives the same trials.", ge=0, le=2**32 - 1)
    cpus_per_trial: float | None = knob(
        None, "CPUs of one trial, and its number of threads. Default: what tune.with_resources asks for, else 1.", ge=0
    )
    gpus_per_trial: float | None = knob(
        None,
        "GPUs of one trial; with a fraction, trials share a GPU and its memory. Default: what tune.with_resources asks"
        " for, else 0.",
        ge=0,
    )
    workers_per_trial: int = knob(
        1,
        "Processes that run one trial together, as torchrun starts them; the CPUs and GPUs above are then of each.",
        ge=1,
        le=MOST_WORKERS,
    )
    concurrency: int | None = knob(None, "Trials at the same time. Default: as many as the cluster has room for.", ge=1)
    max_failures: int = knob(0, "How often a failed trial is restarted from its last checkpoint.", ge=0)
    trial_timeout: float | None = knob(None, "Seconds that one trial may run before it is ended.", gt=0, le=LONGEST_S)
    report_timeout: float | None = knob(
        None,
        "Seconds without a report after which a trial counts as hung and is restarted from its last checkpoint."
        " Default: 20 times the slowest iteration so far, at least 900.",
        gt=0,
        le=LONGEST_S,
    )
    cleanup_timeout: float = knob(
        60.0,
        "Seconds that a stopped trial may take to clean up, in its `finally`, before its process is ended.",
        gt=0,
        le=LONGEST_S,
    )
    nan: str = knob(
        "stop",
        "A metric is not finite: stop ends the trial, fail counts it as failed, worst uses the worst value so far.",
        ("stop", "fail", "worst"),
    )
    time_budget: float | None = knob(
        None,
        "Seconds that the sweep may run; then it ends with exit code 0, and --resume continues it.",
        gt=0,
        le=LONGEST_S,
    )
    cost_budget: float | None = knob(
        None,
        "Money that the sweep may cost by prices.yaml, its earlier runs counted; then it ends with exit code 0, too.",
        gt=0,
        le=LONGEST_S,
    )
    resume: str = knob(
        "never",
        "never: the name must be new; auto: continue the sweep if it exists; must: it has to exist.",
        ("never", "auto", "must"),
    )
    retry: str | None = knob(
        None,
        "With --resume: failed trials are tried again from their last checkpoints: all of them (failed), or those that"
        " failed in one way.",
        ("failed", *KINDS),
    )
    repair: bool = knob(
        False,
        "Continue a sweep whose journal or sweep.json is damaged, without what is lost; its files stay as they are.",
    )
    show_output: bool = knob(
        False, "Print what the trials print, too; `raysweep logs NAME --trial 3` has it without this flag."
    )
    dry_run: bool = knob(
        False,
        "Check everything, time an iteration or two of a few configurations, say what the sweep would take and cost,"
        " and do not start it; as `raysweep check`.",
    )


def default_name(task: str, strategy: str) -> str:
    """A name made of task, strategy and time: of the task's name as much as may be in a sweep's name."""
    end = f"-{strategy}-{time.strftime('%Y%m%d-%H%M%S')}"
    plain = re.sub(r"^\W+|[^\w-]+", "", task.rpartition(".")[2]) or "task"
    return plain.encode()[: MAX_NAME_BYTES - len(end.encode())].decode(errors="ignore") + end


def name_problems(name: str | None) -> list[str]:
    """Problems with a sweep's name, which is the name of a folder in the storage."""
    if name is None:
        return []
    if not re.fullmatch(r"\w[\w.-]*", name):
        return [f"`--name {name}`: a name is one folder of the storage: use letters, digits, - and _"]
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        return [f"`--name {name[:20]}…`: has {size} bytes, and may have at most {MAX_NAME_BYTES}: use a shorter one"]
    return []


def flag_name(field: dataclasses.Field[Any]) -> str:
    """`max_iterations` -> `--max-iterations`."""
    return "--" + field.name.replace("_", "-")


def checked(cls: type[T], values: dict[str, Any]) -> tuple[T, list[str]]:
    """A flags or knobs dataclass with these values, and what is wrong with those that it therefore does not have.

    Args:
        cls: `Flags`, or a strategy's knobs.
        values: field -> value, or its text; None for a field whose default is None, too, says that nothing was given.
    """
    hints = typing.get_type_hints(cls)
    problems, valid = [], {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        given = values.get(field.name, field.default)
        if field.name not in values or (given is None and field.default is None):
            continue
        value, problem = _checked(field, hints[field.name], given)
        if problem is None:
            valid[field.name] = value
        else:
            problems.append(problem)
    return cls(**valid), problems


def _checked(field: dataclasses.Field[Any], kind: Any, given: Any) -> tuple[Any, str | None]:
    """Limits that a sweep sets are checked when there is one, see `spec.sweep.knob_problems`."""
    name, choices, limits = flag_name(field), field.metadata.get("choices"), field.metadata.get("limits", {})
    value, problem = check(name, given, rule(kind, choices))
    if problem or value == field.default:
        return value, problem
    return check(name, given, rule(kind, choices, **{k: each for k, each in limits.items() if is_number(each)}))


def _options(cls: type) -> list[click.Option]:
    hints = typing.get_type_hints(cls)
    return [_option(field, hints[field.name]) for field in dataclasses.fields(cls)]


def _option(field: dataclasses.Field[Any], kind: Any) -> click.Option:
    """Its value stays text, for `checked`, which finds everything that is wrong at once."""
    names, about = [flag_name(field)], field.metadata["help"]
    if kind is bool:
        return click.Option(names, is_flag=True, default=field.default, help=about)
    choices = field.metadata["choices"]
    several = typing.get_origin(kind) is tuple
    if several or isinstance(kind, types.UnionType):
        kind = next(each for each in typing.get_args(kind) if each is not type(None))
    shown = f"[{'|'.join(choices)}]" if choices else METAVARS[kind]
    has_default = field.default not in (None, ())
    return click.Option(
        names, type=str, metavar=shown, default=field.default, help=about, show_default=has_default, multiple=several
    )


def nearest(word: str, known: list[str]) -> str:
    """` (did you mean …?)` for the nearest known word, or an empty string."""
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean `{match[0]}`?)" if match else ""


def _unknown_flags(extra: list[str], known: list[str]) -> list[str]:
    flags = [word.split("=")[0] for word in extra if word.startswith("-")]
    if not flags and extra:
        return [f"`{extra[0]}` is not a flag: every argument is `--name value`"]
    return [f"`{flag}` is not a flag of this job{nearest(flag, known)}; see --help" for flag in flags]


def command(doc: str, knobs: type, body: Callable[[Flags, Any, list[str]], None], name: str) -> click.Command:
    """The command line of a job: the shared flags and the strategy's knobs.

    Args:
        doc: the first lines of `--help`.
        knobs: the strategy's dataclass of knobs.
        body: called with the flags, the knobs and the problems found while parsing them.
        name: the job's file name, for the usage line.
    """
    options = _options(Flags) + _options(knobs)
    known = [option.opts[0] for option in options]

    @click.pass_context
    def callback(ctx: click.Context, /, **values: Any) -> None:
        problems = _unknown_flags(ctx.args, known)
        flags, wrong_flags = checked(Flags, values)
        own: Any
        own, wrong_knobs = checked(knobs, values)
        body(flags, own, problems + wrong_flags + wrong_knobs)

    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "max_content_width": 110}
    return click.Command(name, params=[*options], callback=callback, help=doc, context_settings=settings)
