"""What earlier sweeps have observed, for a new sweep's search: `--warm-start`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Observation:
    """A trial of another sweep.

    Attributes:
        sweep: its URL.
        trial: the trial's number there.
        config: as the journal there has it; every value is one of the new sweep's space.
        iteration: after which the values were reported.
        values: of the metrics that are optimised; none if the trial diverged.
        complete: whether the trial was trained to its end; False if it was stopped early, by whatever.
    """

    sweep: str
    trial: str
    config: dict[str, Any]
    iteration: int
    values: tuple[float, ...]
    complete: bool

    @classmethod
    def from_dict(cls, written: dict[str, Any]) -> Observation:
        """Reads what `to_dict` has written."""
        return cls(**{**written, "values": tuple(written["values"])})

    def to_dict(self) -> dict[str, Any]:
        """As the journal has it."""
        return {**dataclasses.asdict(self), "values": list(self.values)}
