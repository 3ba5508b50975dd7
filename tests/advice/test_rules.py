"""The table of rules: each row decides its own example, with flags that its strategy takes, and names its evidence."""

import dataclasses
import re

import pytest

from raysweep.advice.advisor import advise
from raysweep.advice.case import Case
from raysweep.advice.rules import NEVER_FIRST, RULES, STRATEGIES, Figure, Paper
from raysweep.errors import BadInput
from raysweep.spec.flags import Flags, checked
from raysweep.spec.sweep import strategies
from raysweep.study import simulator
from raysweep.study.curves import Curves
from raysweep.study.table import SHIPPED
from tests.study.finished import ITERATIONS, recorded

CASES = [
    *(rule.example for rule in RULES),
    Case(2, 1, 10),
    Case(30, 4, 10, conditional=True),
    Case(30, 4, 1, choices=2),
]

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)


@each_rule
def test_a_row_decides_its_own_example(rule):
    found = advise(rule.example, {})
    assert found.rule is rule
    assert found.strategy == rule.strategy


@each_rule
def test_without_any_of_its_conditions_a_row_does_not_fit(rule):
    for condition in rule.when:
        others = [case for case in CASES if not condition.holds(case)]
        assert others, f"no case shows when `{condition.text}` does not hold"
        assert not any(rule.fits(case) for case in others)


@each_rule
def test_its_flags_are_those_of_the_strategy(rule):
    assert simulator.contender(rule.label).strategy.name == rule.strategy
    words = rule.flags_for(rule.example).removeprefix(rule.knobs).split()
    given = {flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}
    flags, problems = checked(Flags, given)
    assert problems == []
    assert (flags.samples or 0) >= (1 if rule.samples else 0)


@each_rule
def test_it_names_its_evidence(rule):
    known(rule.evidence)


@pytest.mark.parametrize("name", NEVER_FIRST)
def test_so_does_what_is_never_first(name):
    known(NEVER_FIRST[name].evidence)
    assert name not in {rule.strategy for rule in RULES}


def known(evidence):
    assert evidence
    for each in evidence:
        if isinstance(each, Paper):
            assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,}/\S+|[\w.]+/\S+", each.place)
        else:
            assert isinstance(each, Figure)
            assert (SHIPPED / f"{each.table}.parquet").is_file(), "a figure is of a shipped table"


def test_the_table_knows_every_strategy_of_the_kit():
    assert sorted(STRATEGIES) == sorted(strategies())


# The tutorial: not deep and not iterative: grid, random, Bayesian; iterative: with ASHA; deep: random or Bayesian with
# ASHA; the very best: PBT. Corrected by simulation: at small budgets the median
# rule is ahead of ASHA where curves are long, and random with ASHA of a model with it.
TUTORIAL = [
    (Case(trials=20, workers=4, iterations=1, numbers=0, choices=2, combinations=6), {"grid"}),
    (Case(trials=8, workers=8, iterations=1), {"random_search"}),
    (Case(trials=40, workers=2, iterations=1), {"gp", "tpe"}),
    (Case(trials=40, workers=2, iterations=1, choices=3), {"tpe"}),
    (Case(trials=30, workers=4, iterations=20), {"median_stopping"}),
    (Case(trials=30, workers=4, iterations=5), {"asha"}),
    (Case(trials=120, workers=30, iterations=20), {"asha"}),
    (Case(trials=150, workers=4, iterations=20), {"tpe_asha"}),
    (Case(trials=150, workers=4, iterations=20, mutable=True), {"tpe_asha"}),
    (Case(trials=30, workers=30, iterations=20, mutable=True), {"median_stopping"}),
    (Case(trials=30, workers=30, iterations=20, mutable=True, best_only=True), {"pbt", "pb2"}),
]


@pytest.mark.parametrize(("case", "strategies"), TUTORIAL)
def test_the_tutorials_advice_is_covered(case, strategies):
    assert advise(case, {}).strategy in strategies


@each_rule
def test_if_its_strategy_is_illegal_another_row_decides_and_the_reason_is_told(rule):
    illegal = {rule.strategy: ("this task cannot have it",)}
    if rule is RULES[-1]:
        return
    found = advise(rule.example, illegal)
    assert found.strategy != rule.strategy
    assert found.rejected[rule.strategy] == "illegal: this task cannot have it"


@each_rule
def test_every_other_strategy_is_rejected_with_a_reason(rule):
    found = advise(rule.example, {})
    assert found.rejected.keys() == set(STRATEGIES) - {rule.strategy}
    assert all(len(why) > 20 for why in found.rejected.values())


def test_if_nothing_is_legal_all_problems_are_told():
    with pytest.raises(BadInput) as caught:
        advise(RULES[0].example, dict.fromkeys(STRATEGIES, ("the space is empty",)))
    assert caught.value.problems == ("the space is empty",)


def test_so_many_trials_of_asha_take_about_the_budget(tmp_path):
    curves = Curves(recorded(tmp_path, samples=20, seeds=1))
    case = Case(trials=40, workers=2, iterations=ITERATIONS)
    at = simulator.conditions(curves, 2, 1e9)
    limited = dataclasses.replace(at, most=simulator.paid_for(case.trials, ITERATIONS))
    spent = [simulator.run(curves, simulator.contender("asha"), limited, seed).iterations for seed in range(4)]
    assert sum(spent) / 4 == pytest.approx(case.trials * ITERATIONS, rel=0.25)
