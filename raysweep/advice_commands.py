"""`raysweep advise`: which strategy with which flags, and why."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import click

from raysweep.errors import BadInput
from raysweep.local_commands import current_project

if TYPE_CHECKING:
    from raysweep.advice.advisor import Advice
    from raysweep.advice.case import Case
    from raysweep.advice.rules import Rule

UNITS = ("trials", "epochs")


@click.command()
@click.option("--task", default="digits", show_default=True, help="What is to be tuned, as for a job.")
@click.option("--budget", help="What may be spent: '30 trials' (complete ones) or '300 epochs'. Default: 20 trials.")
@click.option("--time", "seconds", type=click.FloatRange(min=0, min_open=True), help="Or seconds of wall time.")
@click.option(
    "--trial-seconds", type=click.FloatRange(min=0, min_open=True), help="With --time: seconds of a complete trial."
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Trials at the same time. Default: what this machine has room for."
)
@click.option("--max-iterations", type=click.IntRange(min=1), help="Iterations of a trial. Default: the task's own.")
@click.option(
    "--goal", type=click.Choice(("soon", "best")), default="soon", show_default=True,
    help="soon: a good model as early as possible; best: the very best one, for all of the budget.",
)  # fmt: skip
@click.option("--second-metric", help="Optimise this metric, too.")
@click.option("--json", "as_json", is_flag=True, help="Print it for programs.")
def advise(
    task: str, budget: str | None, seconds: float | None, trial_seconds: float | None, workers: int | None,
    max_iterations: int | None, goal: str, second_metric: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Say which strategy to choose, with its flags, the reason and the evidence; it starts nothing.

    The rules are the table in raysweep/advice/rules.py: the first row that fits the task and the budget, and whose
    strategy the checks before a start do not refuse.
    """
    from raysweep.advice.advisor import advise as advised
    from raysweep.advice.case import Case, of_space
    from raysweep.advice.refusals import refusals
    from raysweep.advice.rules import STRATEGIES
    from raysweep.spec import task as tasks
    from raysweep.spec.flags import Flags
    from raysweep.spec.reports import reports
    from raysweep.spec.sweep import settle

    with contextlib.chdir(current_project()):  # where the task's module is found
        loaded = tasks.load(task)
        flags = Flags(task=task, max_iterations=max_iterations)
        sweep = settle(flags, "random_search", loaded, ())
        places = workers or _room(sweep.cpus * sweep.workers)
        trials = _trials(budget, seconds, trial_seconds, places, sweep.max_iterations)
        case = Case(
            trials=trials, workers=places, iterations=sweep.max_iterations, saves=reports(loaded.train).state,
            mutable=bool(loaded.mutable), metrics=1 + (second_metric is not None), best_only=goal == "best",
            **of_space(loaded.space),
        )  # fmt: skip
        found = advised(case, refusals(loaded, flags, STRATEGIES))
    command = _command(found, task, max_iterations, second_metric)
    if as_json:
        click.echo(json.dumps(_written(found, case, command), indent=2))
    else:
        _show(found, case, command)


def _room(cpus: float) -> int:
    """How many trials of so many CPUs this machine has room for."""
    import joblib

    return max(int(joblib.cpu_count() / cpus), 1) if cpus else 1


def _trials(
    budget: str | None, seconds: float | None, trial_seconds: float | None, workers: int, iterations: int
) -> float:
    """The complete trials that the budget has room for."""
    from raysweep.spec.sweep import DEFAULT_SAMPLES

    if budget is not None and seconds is not None:
        raise BadInput(f"`--budget {budget}` and `--time {seconds:g}` are both a budget: give one of them")
    if seconds is None and trial_seconds is not None:
        raise BadInput(f"`--trial-seconds {trial_seconds:g}`: is for `--time`: add it, or leave this out")
    if seconds is None:
        return _parsed(budget, iterations) if budget is not None else DEFAULT_SAMPLES
    if trial_seconds is None:
        raise BadInput(f"`--time {seconds:g}`: add --trial-seconds, how long a complete trial takes")
    if (trials := seconds * workers / trial_seconds) < 1:
        raise BadInput(f"`--time {seconds:g}`: not one trial of {trial_seconds:g} s would be complete: give more")
    return trials


def _parsed(budget: str, iterations: int) -> float:
    number, _, unit = budget.strip().partition(" ")
    wrong = f"`--budget {budget}`: must be a number with its unit: '30 trials' or '300 epochs'"
    if not number.isdecimal() or (unit.strip() or UNITS[0]) not in UNITS:
        raise BadInput(wrong)
    trials = int(number) / (iterations if unit.strip() == "epochs" else 1)
    if trials < 1:
        raise BadInput(f"`--budget {budget}`: a complete trial has {iterations} iterations: give at least that")
    return trials


def _command(found: Advice, task: str, max_iterations: int | None, second_metric: str | None) -> str:
    words = ["raysweep run", found.strategy, "--task", task, found.flags]
    words += ["--max-iterations", str(max_iterations)] if max_iterations else []
    words += ["--second-metric", second_metric] if second_metric else []
    return " ".join(word for word in words if word)


def _written(found: Advice, case: Case, command: str) -> dict[str, Any]:
    rule: Rule = found.rule
    return {
        "strategy": found.strategy, "flags": found.flags, "command": command, "reason": rule.reason,
        "when": [each.text for each in rule.when], "evidence": [str(each) for each in rule.evidence],
        "rejected": found.rejected, "illegal": {name: list(each) for name, each in found.illegal.items()},
        "case": vars(case),
    }  # fmt: skip


def _show(found: Advice, case: Case, command: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    conditional = ", with conditions" if case.conditional else ""
    console.print(
        f"{case.trials:.3g} complete trials of {case.iterations} iterations, {case.workers} at a time; {case.numbers}"
        f" numbers and {case.choices} choices{conditional}\n",
    )
    console.print(f"[bold]{escape(command)}[/bold]\n", soft_wrap=True)
    console.print(escape(f"{found.strategy}: {found.rule.reason}."))
    for condition in found.rule.when:
        console.print(escape(f"  it is for {condition.text}"))
    for evidence in found.rule.evidence:
        console.print(escape(f"  known from {evidence}"), soft_wrap=True)
    table = Table("not", "because", box=None, pad_edge=False)
    for name, why in found.rejected.items():
        table.add_row(name, escape(why))
    console.print()
    console.print(table)


COMMANDS = (advise,)
