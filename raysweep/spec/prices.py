"""`prices.yaml` in the project's folder: what the machines cost that trials run on, rented or one's own.

    currency: EUR
    node_hour: 0.40   # a node with room for trials, whether any run there or not: a rented machine
    cpu_hour: 0.02    # a CPU of a trial, while the trial runs: what a shared cluster charges
    gpu_hour: 2.10    # a GPU of a trial, likewise

A price that is left out is zero, and those that are given add up. For machines of one's own: what one costs in a year,
with power and care, divided by the hours that it is used. Without the file nothing is said of money.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from raysweep.errors import BadInput
from raysweep.spec.flags import nearest
from raysweep.spec.rules import check, rule
from raysweep.spec.yaml_loader import Loader

FILE = "prices.yaml"
HOW = f"write {FILE} in the project's folder, such as `node_hour: 0.40` and `currency: EUR`"
HIGHEST = 1e6  # of an hour


@dataclass(frozen=True)
class Prices:
    """What an hour costs, in the currency.

    Attributes:
        currency: its name, or its sign.
        node_hour: of each node that has room for trials, as long as a sweep runs.
        cpu_hour: of each CPU that a trial has, as long as the trial runs.
        gpu_hour: of each GPU that a trial has, likewise.
    """

    currency: str = "EUR"
    node_hour: float = 0.0
    cpu_hour: float = 0.0
    gpu_hour: float = 0.0

    def __str__(self) -> str:
        """As people say it: `0.4 EUR a node-hour, 2.1 EUR a GPU-hour`."""
        names = {"node": self.node_hour, "CPU": self.cpu_hour, "GPU": self.gpu_hour}
        return ", ".join(f"{price:g} {self.currency} a {name}-hour" for name, price in names.items() if price)


def read(folder: Path) -> Prices | None:
    """The prices of a project; None if it has no table of them.

    Raises:
        BadInput: the file cannot be read, or has something that is no price; all problems.
    """
    path = folder / FILE
    try:
        written = yaml.load(path.read_text(), Loader=Loader)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"`{FILE}`: {error.strerror}: make it readable, or remove it") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"`{FILE}`: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(written, dict) or not written:
        raise BadInput(f"`{FILE}`: must be a mapping such as `node_hour: 0.40`: give a price, or remove the file")
    return _prices(written)


def _prices(written: dict[Any, Any]) -> Prices:
    known = [field.name for field in fields(Prices)]
    problems = [
        f"`{FILE}`: `{key}` is not known{nearest(str(key), known)}: it may have {', '.join(known)}"
        for key in written
        if key not in known
    ]
    kinds = {name: rule(float, ge=0, le=HIGHEST) for name in known} | {"currency": rule(str)}
    checked = {name: check(name, written[name], kinds[name]) for name in known if name in written}
    problems += [f"`{FILE}`: {problem}" for _, problem in checked.values() if problem]
    if not problems and not any(written.get(name) for name in known if name != "currency"):
        problems.append(f"`{FILE}`: has no price: give one of {', '.join(known[1:])}, or remove the file")
    if problems:
        raise BadInput(*problems)
    return Prices(**{name: value for name, (value, _) in checked.items()})


def problems(folder: Path, budget: float | None, cpus: float, gpus: float) -> list[str]:
    """What is wrong with the table of a project, or with a budget that it would never use up.

    Args:
        folder: of the project.
        budget: the `--cost-budget`, if there is one.
        cpus: of a trial.
        gpus: the same.
    """
    try:
        found = read(folder)
    except BadInput as error:
        return list(error.problems)
    if budget is None:
        return []
    if found is None:
        return [f"`--cost-budget {budget:g}`: there is no table of prices: {HOW}"]
    if not (found.node_hour or cpus * found.cpu_hour or gpus * found.gpu_hour):
        return [
            f"`--cost-budget {budget:g}`: by {FILE} ({found}) a trial with {cpus:g} CPUs and {gpus:g} GPUs costs"
            " nothing: give the price of what it uses"
        ]
    return []
