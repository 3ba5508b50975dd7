"""A table of learning curves: what `raysweep record` writes, `raysweep simulate` reads, and pandas opens.

A Parquet file with one row for each iteration of each curve; a curve is one configuration, trained once with one seed:

configuration   number of the configuration, from 0
seed            that the trial was given as `config["seed"]`, else 0
iteration       from 1
seconds         that this iteration took
config/NAME     the configuration; a choice among values of several types stands as JSON
metric/NAME     what the iteration reported; NaN where it was no finite number, or not reported

What else is known of it is in `pandas.read_parquet(file).attrs`: format, task, space (as `--space` files have it),
mutable, metric, mode, max_iterations, sweeps, cpus and gpus of a trial, hardware, versions, code. A curve is complete,
or ends with the iteration in which it diverged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ray.tune.search.sample import Domain

from raysweep.errors import BadInput
from raysweep.spec import space_file
from raysweep.spec.configuration import Choices, parameters
from raysweep.spec.paths import name_of

FORMAT = 1
CONFIG, METRIC = "config/", "metric/"
KEYS = ("configuration", "seed", "iteration", "seconds")
NEEDED = ("task", "space", "metric", "mode", "max_iterations")
SHIPPED = Path(__file__).parent / "tables"  # recorded with the kit; `raysweep simulate digits` finds them by name


@dataclass(frozen=True)
class CurveTable:
    """Learning curves, and what is known of them.

    Attributes:
        frame: the rows, as the file has them.
        about: what else is known, see above.
        space: of Ray's domains.
    """

    frame: pd.DataFrame
    about: dict[str, Any]
    space: dict[str, Any]

    @property
    def metric(self) -> str:
        """What was optimised."""
        return str(self.about["metric"])

    @property
    def mode(self) -> str:
        """Either "max" or "min"."""
        return str(self.about["mode"])

    @property
    def max_iterations(self) -> int:
        """Iterations of a complete curve."""
        return int(self.about["max_iterations"])

    @property
    def metrics(self) -> list[str]:
        """The metrics that were reported."""
        return [name.removeprefix(METRIC) for name in self.frame.columns if name.startswith(METRIC)]

    def save(self, path: Path) -> None:
        """Writes the file.

        Raises:
            BadInput: it cannot be written there.
        """
        frame = self.frame.copy()
        frame.attrs.update(self.about, format=FORMAT)
        try:
            frame.to_parquet(path, engine="pyarrow", index=False, compression="zstd")
        except OSError as error:
            raise BadInput(
                f"`--output {path}`: cannot be written ({error}): name a file in a folder of yours"
            ) from None


def load(name: str) -> CurveTable:
    """The table in a file, or a shipped one by its name, such as `digits`.

    Raises:
        BadInput: there is none, or it is no table of learning curves.
    """
    path, shipped = Path(name), SHIPPED / f"{name}.parquet"
    if not path.is_file() and shipped.is_file():
        path = shipped
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in SHIPPED.glob("*.parquet"))) or "none yet"
        raise BadInput(
            f"`{name}`: there is no such file, and no shipped table (there are: {known}): see `raysweep record`"
        )
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:
        raise BadInput(
            f"`{name}`: no Parquet file ({str(error).splitlines()[0]}): write one with `raysweep record`"
        ) from None
    about = {str(key): value for key, value in frame.attrs.items()}
    lacks = [f"column {key}" for key in KEYS if key not in frame] + [key for key in NEEDED if key not in about]
    if lacks or f"{METRIC}{about['metric']}" not in frame:
        raise BadInput(
            f"`{name}`: no table of `raysweep record`: it lacks {', '.join(lacks) or 'its metric'}: record it anew"
        )
    if about.get("format") != FORMAT:
        raise BadInput(f"`{name}`: has format {about.get('format')}, and this version reads {FORMAT}: record it anew")
    return CurveTable(frame, about, space_file.parse(about["space"], f"`{name}`"))


def columns(space: dict[str, Any], written: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The columns `config/…` of written configurations, each flat: parameter -> value."""
    found = {}
    for path, domain in parameters(space).items():
        name = name_of(path)
        values = [each[name] for each in written]
        found[CONFIG + name] = [json.dumps(each) for each in values] if is_mixed(domain) else values
    return found


def is_mixed(domain: Domain) -> bool:
    """Whether the values of a choice have several types, or one that no column has: they stand as JSON."""
    values = Choices(domain.categories).written if hasattr(domain, "categories") else [0]
    kinds = {type(each) for each in values}
    return len(kinds) > 1 or not kinds <= {bool, int, float, str}


def cell(domain: Domain, value: Any) -> Any:
    """The written value of a parameter, from its cell in the table."""
    if is_mixed(domain):
        return json.loads(value)
    return value.item() if isinstance(value, np.generic) else value
