"""How good `raysweep advise` is: the share of cases in which its strategy is about as fast as the best one.

A case is a table with a budget and a number of workers. All strategies that the advice may name are simulated on it,
as for docs/which-strategy.md, once for each seed. The advice is right if the median time to the target of the strategy
that it names is at most TOLERANCE above the lowest one; the target is what random search has at the end, as a median.
The rules were chosen on TUNED; all other tables were looked at only to judge them.

    python benchmarks/advice.py --seeds 30
    python benchmarks/advice.py --table curves.parquet --budget 30 --workers 4 --figures figures.json
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks import synthetic_tables
from benchmarks.which_strategy import BASELINE, LEFT_OUT, measured
from raysweep.advice.advisor import advise
from raysweep.advice.case import Case, of_space
from raysweep.advice.rules import RULES, STRATEGIES
from raysweep.study import simulator
from raysweep.study.curves import Curves
from raysweep.study.table import SHIPPED, load

TOLERANCE = 0.1
TUNED = ("digits", "fashion_mnist", "smooth", "crossing", "one_piece", "short", "wide", "noisy")


@dataclass(frozen=True)
class Verdict:
    """The advice for a case, and what the simulation says.

    Attributes:
        table: its name.
        trials: complete trials of the budget.
        workers: trials at the same time.
        advised: the strategy with its own flags.
        fastest: that of the lowest median time to the target.
        times: strategy -> its median time to the target, in simulated seconds; infinite if fewer than half reached it.
    """

    table: str
    trials: int
    workers: int
    advised: str
    fastest: str
    times: dict[str, float]

    @property
    def ratio(self) -> float:
        """How many times as long the advised strategy takes as the fastest."""
        return self.times[self.advised] / self.times[self.fastest]

    @property
    def right(self) -> bool:
        """Whether it is about as fast."""
        return self.ratio <= 1 + TOLERANCE


def advised(curves: Curves, trials: int, workers: int) -> str:
    """The strategy that is advised for a table, with its own flags."""
    table = curves.table
    case = Case(
        trials, workers, table.max_iterations, mutable=bool(table.about.get("mutable")), **of_space(table.space)
    )
    illegal = dict.fromkeys(LEFT_OUT, ("a table has one objective, and a grid no seed",))
    return advise(case, illegal).rule.label


def labels() -> list[str]:
    """All strategies that the advice may name, with their own flags, and all others of the kit as they are."""
    own = [rule.label for rule in RULES if rule.strategy not in LEFT_OUT]
    return list(dict.fromkeys([BASELINE, *own, *(name for name in STRATEGIES if name not in LEFT_OUT)]))


def judged(name: str, curves: Curves, trials: int, workers: int, seeds: int, asked: Sequence[str]) -> Verdict:
    """The verdict on the advice for one case."""
    cell = measured(name, curves, trials, workers, seeds, [simulator.contender(label) for label in asked])
    times = {group.label: group.seconds for group in cell.found.groups}
    return Verdict(name, trials, workers, advised(curves, trials, workers), min(times, key=times.__getitem__), times)


def report(verdicts: Sequence[Verdict]) -> str:
    """One line a case, and the shares."""
    lines = [
        f"{each.table:14} {each.trials:4} trials {each.workers:3} workers  {each.advised:30}"
        f" {each.times[each.advised]:9.3g} s, {each.ratio:5.2f} x {each.fastest}{'' if each.right else '  WRONG'}"
        for each in verdicts
    ]
    for what, of in (("tuned on", True), ("judged on", False)):
        same = [each for each in verdicts if (each.table in TUNED) is of]
        right = sum(each.right for each in same)
        lines += [f"{what}: right in {right} of {len(same)} cases, {right / len(same):.0%}"] if same else []
    return "\n".join(lines)


def tables(names: Sequence[str]) -> dict[str, Curves]:
    """The tables of these names: computed ones, shipped ones, or files; all of the first two if none is named."""
    names = names or [*synthetic_tables.KINDS, *sorted(path.stem for path in SHIPPED.glob("*.parquet"))]
    return {
        Path(name).stem: Curves(synthetic_tables.table(name) if name in synthetic_tables.KINDS else load(name))
        for name in names
    }


@click.command()
@click.option("--table", "names", multiple=True, help="A file, a shipped table or a computed one. Default: all.")
@click.option("--seeds", default=30, show_default=True, help="Sweeps of each strategy.")
@click.option(
    "--budget", "budgets", multiple=True, type=int, default=(10, 30), show_default=True, help="Complete trials."
)
@click.option(
    "--workers", multiple=True, type=int, default=(1, 4, 16), show_default=True, help="Trials at the same time."
)
@click.option("--strategies", "asked", help="With commas. Default: all that the advice knows.")
@click.option("--figures", type=click.Path(path_type=Path), help="All figures, as JSON.")
def main(
    names: tuple[str, ...], seeds: int, budgets: tuple[int, ...], workers: tuple[int, ...], asked: str | None,
    figures: Path | None,
) -> None:  # fmt: skip
    """Judges the advice, and prints the share of the cases in which it is right."""
    warnings.simplefilter("ignore")  # of the models
    contenders = [each.strip() for each in asked.split(",")] if asked else labels()
    verdicts = []
    for name, curves in tables(names).items():
        for trials in budgets:
            for places in workers:
                own = list(dict.fromkeys([*contenders, advised(curves, trials, places)]))
                verdicts.append(judged(name, curves, trials, places, seeds, own))
                if figures is not None:
                    figures.write_text("".join(json.dumps(asdict(each)) + "\n" for each in verdicts))
    click.echo(report(verdicts))


if __name__ == "__main__":
    main()
