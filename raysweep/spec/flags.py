"""The flags that every job has, and how a dataclass becomes a command line.

`Flags` is the only place that defines a shared flag: its name, type, default and help. A strategy's own knobs are a
dataclass of the same kind in its file. Both become `click` options here.
"""

from __future__ import annotations

import dataclasses
import difflib
import time
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

T = TypeVar("T")


def knob(default: T, help: str, choices: tuple[str, ...] | None = None) -> T:
    """One field of a flags or knobs dataclass: its default, its help text and its allowed values."""
    field: T = dataclasses.field(default=default, metadata={"help": help, "choices": choices})
    return field


@dataclass(frozen=True)
class Flags:
    """The flags that all strategies share. A test freezes the list."""

    task: str = knob("digits", "What to tune: a file of tasks/, or your own module such as mypkg.train.")
    data: str | None = knob(None, "Folder with the task's data, or s3://bucket/prefix. Default: the task's own source.")
    name: str | None = knob(None, "Name of the sweep in the storage. Default: task, strategy and time.")
    storage: str | None = knob(
        None, "A folder or s3://bucket/prefix. Default: $RAYSWEEP_STORAGE, else the folder runs."
    )
    samples: int | None = knob(None, "How many trials (grid: how many times the grid). Default: 20, grid 1.")
    max_iterations: int | None = knob(None, "Iterations a trial may run. Default: the task's MAX_ITERATIONS.")
    metric: str | None = knob(None, "What to optimise. Default: the task's METRIC.")
    mode: str | None = knob(None, "max or min. Default: the task's MODE.", ("max", "min"))
    points: Path | None = knob(None, "YAML or JSON file of configurations to try first.")
    seed: int = knob(0, "Seeds the search and the scheduler: the same seed gives the same trials.")
    cpus_per_trial: float = knob(1.0, "CPUs of one trial, and its number of threads.")
    gpus_per_trial: float = knob(0.0, "GPUs of one trial; with a fraction, trials share a GPU and its memory.")
    concurrency: int | None = knob(None, "Trials at the same time. Default: as many as the cluster has room for.")
    max_failures: int = knob(0, "How often a failed trial is restarted from its last checkpoint.")
    trial_timeout: float | None = knob(None, "Seconds that one trial may run before it is ended.")
    report_timeout: float | None = knob(
        None,
        "Seconds without a report after which a trial counts as hung and is restarted from its last checkpoint."
        " Default: 20 times the slowest iteration so far, at least 900.",
    )
    cleanup_timeout: float = knob(
        60.0, "Seconds that a stopped trial may take to clean up, in its `finally`, before its process is ended."
    )
    nan: str = knob(
        "stop",
        "A metric is not finite: stop ends the trial, fail counts it as failed, worst uses the worst value so far.",
        ("stop", "fail", "worst"),
    )
    time_budget: float | None = knob(
        None, "Seconds that the sweep may run; then it ends with exit code 0, and --resume continues it."
    )
    resume: str = knob(
        "never",
        "never: the name must be new; auto: continue the sweep if it exists; must: it has to exist.",
        ("never", "auto", "must"),
    )
    dry_run: bool = knob(False, "Check everything, print what would run, start nothing.")


def default_name(task: str, strategy: str) -> str:
    """A name made of task, strategy and time."""
    return f"{task.rpartition('.')[2]}-{strategy}-{time.strftime('%Y%m%d-%H%M%S')}"


class _InvalidValue:
    """A value that cannot be parsed; reported together with all other problems."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


class _FlagType(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4 only
    """Parses a value as click would, but returns an error instead of raising it, so that all are reported at once."""

    def __init__(self, flag: str, type_: click.ParamType[Any, Any]) -> None:
        self.flag, self.type, self.name = flag, type_, type_.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.type.convert(value, param, ctx)
        except click.BadParameter as error:
            return _InvalidValue(f"`{self.flag}` is {value!r}: {error.message}")


def flag_name(field: dataclasses.Field[Any]) -> str:
    """`max_iterations` -> `--max-iterations`."""
    return "--" + field.name.replace("_", "-")


def _click_type(annotation: Any, choices: tuple[str, ...] | None) -> click.ParamType[Any, Any]:
    if choices:
        return click.Choice(choices)
    if isinstance(annotation, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    simple: dict[Any, click.ParamType[Any, Any]] = {
        int: click.INT,
        float: click.FLOAT,
        str: click.STRING,
        Path: click.Path(path_type=Path),
    }
    return simple[annotation]


def _options(cls: type) -> list[click.Option]:
    hints = typing.get_type_hints(cls)
    options = []
    for field in dataclasses.fields(cls):
        flag, help_text = flag_name(field), field.metadata["help"]
        if hints[field.name] is bool:
            options.append(click.Option([flag], is_flag=True, default=field.default, help=help_text))
        else:
            kind = _FlagType(flag, _click_type(hints[field.name], field.metadata["choices"]))
            has_default = field.default is not None
            options.append(
                click.Option([flag], type=kind, default=field.default, help=help_text, show_default=has_default)
            )
    return options


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
        problems += [value.problem for value in values.values() if isinstance(value, _InvalidValue)]
        valid = {key: value for key, value in values.items() if not isinstance(value, _InvalidValue)}
        body(_instance(Flags, valid), _instance(knobs, valid), problems)

    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "max_content_width": 110}
    return click.Command(name, params=[*options], callback=callback, help=doc, context_settings=settings)


def _instance(cls: type[T], values: dict[str, Any]) -> T:
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return cls(**{key: value for key, value in values.items() if key in names})
