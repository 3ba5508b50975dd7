"""The table: the first row whose conditions all hold, and whose strategy is legal for the task, is the advice.

Each row says how it is known: a paper, a figure of docs/which-strategy.md, or what `benchmarks/advice.py` has found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from raysweep.advice.case import Case
from raysweep.study.simulator import paid_for

ITERATIVE = 3  # iterations from which on stopping early can save anything: fewer have no rung before the end


class Paper(NamedTuple):
    """A publication: its name, and an address or an arXiv number under which it is found."""

    name: str
    place: str

    def __str__(self) -> str:
        return f"{self.name}, {self.place}"


class Figure(NamedTuple):
    """A row of figures on docs/which-strategy.md: complete trials of the budget, and trials at the same time."""

    table: str
    trials: int
    workers: int

    def __str__(self) -> str:
        where = f"a budget of {self.trials} complete trials, {self.workers} workers"
        return f"docs/which-strategy.md, {self.table}: {where}"


class Condition(NamedTuple):
    """Part of what a row is for, in words and as a test."""

    text: str
    holds: Callable[[Case], bool]


@dataclass(frozen=True)
class Rule:
    """A row.

    Attributes:
        strategy: a file of jobs/.
        knobs: the strategy's own flags, where they are not the defaults.
        samples: what --samples is given: `trials`, those of the budget; or `drawn`, so many more as early stopping
            lets it pay for; or nothing.
        when: all of these must hold.
        reason: why, in one sentence.
        evidence: how that is known.
        example: a case which this row decides.
    """

    strategy: str
    knobs: str
    samples: str
    when: tuple[Condition, ...]
    reason: str
    evidence: tuple[Paper | Figure, ...]
    example: Case

    def missing(self, case: Case) -> list[Condition]:
        """The conditions that do not hold."""
        return [each for each in self.when if not each.holds(case)]

    def fits(self, case: Case) -> bool:
        """Whether all conditions hold."""
        return not self.missing(case)

    def flags_for(self, case: Case) -> str:
        """The flags of the command line."""
        counts = {"trials": max(int(case.trials), 1), "drawn": paid_for(case.trials, case.iterations)}
        return " ".join([self.knobs, f"--samples {counts[self.samples]}" if self.samples else ""]).strip()

    @property
    def label(self) -> str:
        """Strategy and own flags, as `raysweep simulate` takes them."""
        return f"{self.strategy} {self.knobs}".strip()


class Passed(NamedTuple):
    """Why a strategy is never the first choice, and how that is known."""

    why: str
    evidence: tuple[Paper | Figure, ...]


RANDOM = Paper("Bergstra & Bengio, Random Search for Hyper-Parameter Optimization", "jmlr.org/papers/v13/bergstra12a")
TPE = Paper("Watanabe, Tree-Structured Parzen Estimator (2023)", "arXiv:2304.11127")
GP = Paper("Snoek et al., Practical Bayesian Optimization (2012)", "arXiv:1206.2944")
ASHA = Paper("Li et al., A System for Massively Parallel Hyperparameter Tuning (2020)", "arXiv:1810.05934")
BOHB = Paper("Falkner et al., BOHB (2018)", "arXiv:1807.01774")
HYPERBAND = Paper("Li et al., Hyperband, JMLR 18 (2018)", "arXiv:1603.06560")
HALVING = Paper("Jamieson & Talwalkar, Non-stochastic Best Arm Identification (2016)", "arXiv:1502.07943")
PBT = Paper("Jaderberg et al., Population Based Training of Neural Networks (2017)", "arXiv:1711.09846")
PB2 = Paper("Parker-Holder et al., Population-Based Bandits (2020)", "arXiv:2002.02518")
MOTPE = Paper("Ozaki et al., Multiobjective TPE, JAIR 73 (2022)", "doi:10.1613/jair.1.13188")
CMA = Paper("Hansen, The CMA Evolution Strategy: A Tutorial (2016)", "arXiv:1604.00772")
VIZIER = Paper("Golovin et al., Google Vizier, KDD (2017)", "doi:10.1145/3097983.3098043")

SEVERAL = Condition("several metrics at once", lambda case: case.metrics > 1)
ITERATES = Condition(f"trials of {ITERATIVE} or more iterations", lambda case: case.iterations >= ITERATIVE)
ONE_PIECE = Condition(f"trials of fewer than {ITERATIVE} iterations", lambda case: case.iterations < ITERATIVE)
WHOLE_GRID = Condition(
    "a space whose combinations all fit the budget",
    lambda case: case.combinations is not None and case.combinations <= case.trials,
)
BEST_ONLY = Condition("the best model, however long it takes (--goal best)", lambda case: case.best_only)
SCHEDULES = Condition(
    "a task that saves a state and has parameters that may change while it trains (MUTABLE)",
    lambda case: case.mutable and case.saves is not False,
)
LONG = Condition("trials of 8 or more iterations, in which a population can change", lambda case: case.iterations >= 8)
POPULATION = Condition("a budget of 4 or more complete trials", lambda case: case.trials >= 4)
LARGE = Condition("a budget of 12 or more complete trials", lambda case: case.trials >= 12)
NUMBERS = Condition("numbers only, at most ten of them", lambda case: case.choices == 0 and 0 < case.numbers <= 10)
LEARNS = Condition(
    "a budget of 12 or more complete trials, of which a worker has more than one",
    lambda case: case.trials >= 12 and case.rounds >= 1.5,
)
MANY = Condition(
    "a budget of 100 or more complete trials, 10 or more for each worker",
    lambda case: case.trials >= 100 and case.rounds >= 10,
)
LONG_CURVES = Condition("trials of 8 or more iterations", lambda case: case.iterations >= 8)
FEW_ENOUGH = Condition("a budget of at most 100 complete trials", lambda case: case.trials <= 100)
PLAIN = Condition("a space without conditions", lambda case: not case.conditional)
GENERATIONS = Condition("a budget of 200 or more complete trials", lambda case: case.trials >= 200)

RULES = (
    Rule(
        "multi_objective", "", "trials", (SEVERAL,),
        "it finds the trade between the metrics; a scheduler would stop by one of them what is best in another",
        (MOTPE,), Case(trials=30, workers=4, iterations=10, metrics=2),
    ),
    Rule(
        "grid", "", "", (ONE_PIECE, WHOLE_GRID),
        "the budget pays for every combination, and a model that is trained in one piece cannot be stopped early",
        (RANDOM,), Case(trials=20, workers=4, iterations=1, numbers=0, choices=2, combinations=12),
    ),
    Rule(
        "pbt", "", "trials", (BEST_ONLY, SCHEDULES, LONG, LARGE),
        "parameters follow a schedule that no fixed configuration has, with a model that is never started anew",
        (PBT,), Case(trials=20, workers=20, iterations=50, mutable=True, best_only=True),
    ),
    Rule(
        "pb2", "", "trials", (BEST_ONLY, SCHEDULES, LONG, POPULATION),
        "it is population based training for a small population, whose changes a model chooses instead of chance",
        (PB2, PBT), Case(trials=6, workers=6, iterations=50, mutable=True, best_only=True),
    ),
    Rule(
        "tpe_asha", "", "drawn", (ITERATES, PLAIN, MANY),
        "most trials end early, and with so many a model draws better ones than chance",
        (BOHB, ASHA, TPE), Case(trials=120, workers=4, iterations=10),
    ),
    Rule(
        "median_stopping", "--grace-period 2", "trials", (LONG_CURVES, FEW_ENOUGH),
        "it ends bad trials early, and seldom a good one that starts slowly, of which so small a budget has few",
        (Figure("fashion_mnist", 10, 4), Figure("digits", 30, 4), VIZIER), Case(trials=30, workers=4, iterations=10),
    ),
    Rule(
        "asha", "", "drawn", (ITERATES,),
        "most trials end early and nobody waits, so it sees the most configurations",
        (ASHA,), Case(trials=30, workers=4, iterations=4),
    ),
    Rule(
        "cma_es", "", "trials", (ONE_PIECE, NUMBERS, PLAIN, GENERATIONS),
        "it adapts to numbers that depend on each other, over the many generations that the budget pays for",
        (CMA,), Case(trials=400, workers=4, iterations=1, numbers=6),
    ),
    Rule(
        "gp", "", "trials", (ONE_PIECE, NUMBERS, PLAIN, LEARNS, FEW_ENOUGH),
        "it gets the most from few trials of a few numbers",
        (GP,), Case(trials=40, workers=4, iterations=1, numbers=4),
    ),
    Rule(
        "tpe", "", "trials", (ONE_PIECE, PLAIN, LEARNS),
        "it learns from all trials, and takes choices beside numbers",
        (TPE,), Case(trials=40, workers=4, iterations=1, choices=2),
    ),
    Rule(
        "random_search", "", "trials", (),
        "a model learns too late for this budget, or cannot have this space, and nothing can be stopped early",
        (RANDOM,), Case(trials=16, workers=16, iterations=1),
    ),
)  # fmt: skip

# Strategies that are never the first choice, and why.
NEVER_FIRST = {
    "successive_halving": Passed(
        "all trials of a rung wait for its slowest one, which asha avoids", (Figure("digits", 30, 4), HALVING)
    ),
    "hyperband": Passed(
        "brackets wait for their slowest trial, and most of them stop late", (Figure("digits", 30, 4), HYPERBAND)
    ),
    "async_hyperband": Passed(
        "it is as soon as asha, and no sooner, where early iterations say something", (Figure("digits", 30, 4), ASHA)
    ),
    "tpe_hyperband": Passed("it is later than asha on our tables", (Figure("digits", 30, 4), BOHB)),
    "gp_asha": Passed("its model learns from complete trials only, which are few under asha", (GP, ASHA)),
}

STRATEGIES = tuple(dict.fromkeys([*(rule.strategy for rule in RULES), *NEVER_FIRST]))  # all that the table knows
