"""The finished sweeps that a command line names: by name, by pattern, in groups."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from raysweep.errors import BadInput
from raysweep.history import results
from raysweep.history.results import SweepResults
from raysweep.spec.flags import nearest
from raysweep.study.trajectory import Trajectory, of_sweep

SAME = ("task", "metrics", "modes")  # in all sweeps that are compared


def find(words: Sequence[str], storage: str) -> list[SweepResults]:
    """The sweeps with these names, or whose names match a pattern such as `asha-*`; each once.

    Raises:
        BadInput: there is none for one of the words.
    """
    known, found, problems = results.names(storage), list[str](), list[str]()
    for word in words:
        matching = [name for name in known if name == word] or [name for name in known if fnmatchcase(name, word)]
        found += [name for name in matching if name not in found]
        if not matching:
            problems.append(
                f"`{word}`: no sweep in {storage} has this name or matches it{nearest(word, known)}: list all with"
                " `raysweep results`, or give --storage"
            )
    if problems:
        raise BadInput(*problems)
    return [results.read(name, storage) for name in found]


def groups(words: Sequence[str], storage: str) -> dict[str, list[SweepResults]]:
    """The sweeps of each strategy that is compared.

    Args:
        words: `LABEL=NAME,NAME`, or a name or a pattern alone: its label is the strategy's name.
        storage: where they are.

    Raises:
        BadInput: there are none, two groups have one label, or the sweeps cannot be compared.
    """
    found: dict[str, list[SweepResults]] = {}
    for word in words:
        label, equals, names = word.partition("=")
        sweeps = find((names if equals else word).split(","), storage)
        for sweep in sweeps:
            found.setdefault(label if equals else str(sweep.spec["strategy"]), []).append(sweep)
    everyone = [sweep for sweeps in found.values() for sweep in sweeps]
    if problems := [*_problems(everyone), *_twice(found)]:
        raise BadInput(*problems)
    return found


def runs(sweeps: Sequence[SweepResults]) -> dict[int, Trajectory]:
    """The trajectories of a group, by seed."""
    return {int(sweep.spec["seed"]): of_sweep(sweep) for sweep in sweeps}


def _problems(sweeps: Sequence[SweepResults]) -> list[str]:
    first = sweeps[0]
    problems = [
        f"`{sweep.spec['name']}` has the {key} {sweep.spec[key]}, and `{first.spec['name']}` has {first.spec[key]}:"
        " compare sweeps of one task and metric"
        for sweep in sweeps
        for key in SAME
        if sweep.spec[key] != first.spec[key]
    ]
    problems += [
        f"`{sweep.spec['name']}` has several objectives: compare sweeps of one metric"
        for sweep in sweeps
        if not sweep.objective.single
    ]
    problems += [
        f"`{sweep.spec['name']}` has no results yet: wait for them, or leave it out"
        for sweep in sweeps
        if not any(trial.results for trial in sweep.state.trials.values())
    ]
    return problems + [f"`{sweep.spec['name']}`: {damage}" for sweep in sweeps for damage in sweep.damage]


def _twice(found: dict[str, list[SweepResults]]) -> list[str]:
    """Problems with two sweeps of one group that have the same seed: they would count as one."""
    problems = []
    for label, sweeps in found.items():
        names: dict[int, str] = {}
        for sweep in sweeps:
            other = names.setdefault(sweep.spec["seed"], sweep.spec["name"])
            if other != sweep.spec["name"]:
                problems.append(
                    f"`{other}` and `{sweep.spec['name']}` are both {label} with seed {sweep.spec['seed']}: leave one"
                    " out, or name two groups: LABEL=NAME,NAME"
                )
    return problems
