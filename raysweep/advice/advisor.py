"""The first rule of the table that fits a case and whose strategy is legal; and why no other strategy is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raysweep.advice.case import Case
from raysweep.advice.rules import NEVER_FIRST, RULES, STRATEGIES, Rule
from raysweep.errors import BadInput


@dataclass(frozen=True)
class Advice:
    """What to run, and why.

    Attributes:
        rule: that decided.
        flags: of the strategy's command line, without `--task`.
        rejected: every other strategy -> why it was not chosen.
        illegal: strategies that the task cannot have -> all that is wrong with them.
    """

    rule: Rule
    flags: str
    rejected: Mapping[str, str]
    illegal: Mapping[str, tuple[str, ...]]

    @property
    def strategy(self) -> str:
        """The chosen one."""
        return self.rule.strategy


def advise(case: Case, illegal: Mapping[str, tuple[str, ...]]) -> Advice:
    """The advice for a case.

    Args:
        case: what the choice depends on.
        illegal: see `refusals`.

    Raises:
        BadInput: no rule with a legal strategy fits.
    """
    for rule in RULES:
        if rule.fits(case) and rule.strategy not in illegal:
            return Advice(rule, rule.flags_for(case), _rejected(case, rule, illegal), illegal)
    problems = dict.fromkeys(problem for problems in illegal.values() for problem in problems)
    raise BadInput(*problems)


def _rejected(case: Case, chosen: Rule, illegal: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: _why_not(name, case, chosen, illegal) for name in STRATEGIES if name != chosen.strategy}


def _why_not(name: str, case: Case, chosen: Rule, illegal: Mapping[str, tuple[str, ...]]) -> str:
    if name in illegal:
        return f"illegal: {illegal[name][0]}"
    if name in NEVER_FIRST:
        return NEVER_FIRST[name].why
    missing = [rule.missing(case) for rule in RULES if rule.strategy == name]
    if all(missing):
        return f"it is for: {min(missing, key=len)[0].text}"
    return f"{chosen.strategy} goes before it: {chosen.reason}"
