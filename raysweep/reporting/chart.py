"""A chart: a figure of plotly.js as a plain dictionary, with its title and the sentence that says what it shows.

https://plotly.com/javascript/reference/ has every key. `plotly.graph_objects` would check them, and takes half a second
to import at the end of each sweep: the tests check every chart with it instead. Colours of text and grid are set in the
page, which has a light and a dark theme; those of the traces can be told from either background.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from raysweep.values import is_number, to_json

BLUE, ORANGE, GREEN, RED = "#3b82f6", "#ea580c", "#16a34a", "#dc2626"
VIOLET, TEAL, PINK, GREY = "#8b5cf6", "#0d9488", "#db2777", "#7c8494"
COLOURS = (BLUE, ORANGE, GREEN, VIOLET, PINK, TEAL, RED, GREY)
STATUS = {"finished": GREEN, "stopped": ORANGE, "failed": RED, "infeasible": RED, "running": BLUE, "pending": GREY}
SCALE = [[0.0, "#94a3b8"], [0.6, BLUE], [1.0, ORANGE]]  # of a colour that stands for a number: grey, blue, orange
LONGEST_TEXT, LONGEST_LABEL = 60, 18
DIGITS = 6

Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One figure of the page.

    Attributes:
        id: of its element; unique in its sweep.
        title: its heading.
        caption: what it shows, for all readers; it is read out in place of the figure, too.
        data: the traces.
        layout: of plotly.
        height: in pixels.
        wide: whether it wants the whole width of the page.
    """

    id: str
    title: str
    caption: str
    data: list[Trace]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 320
    wide: bool = True

    @property
    def figure(self) -> dict[str, Any]:
        """What plotly.js is given."""
        return {"data": self.data, "layout": {"height": self.height, **self.layout}}


def axis(title: str, log: bool = False, **more: Any) -> dict[str, Any]:
    """An axis of a layout."""
    kind = {"type": "log", "exponentformat": "power", "dtick": None} if log else {}
    return {"title": {"text": text(title)}, "automargin": True, "zeroline": False, **kind, **more}


def text(value: Any) -> str:
    """A user's value as plotly shows it: what it would take for a tag is text."""
    return html.escape(short(value))


def short(value: Any, longest: int = LONGEST_TEXT) -> str:
    """A user's value in so many characters."""
    plain = value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else to_json(value)
    plain = " ".join(plain.split())
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"


def number(value: Any) -> float | None:
    """A metric as a number of the page, with so many digits as can be seen; None if it is none."""
    return float(f"{float(value):.{DIGITS}g}") if is_number(value) else None


def numbers(values: Iterable[Any]) -> list[float | None]:
    """All of them."""
    return [number(value) for value in values]


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, the first and the last included, evenly spread."""
    if len(items) <= most:
        return list(items)
    step = (len(items) - 1) / (most - 1)
    return [items[round(n * step)] for n in range(most)]


def logarithmic(values: Iterable[float | None], mode: str) -> bool:
    """Whether a metric wants a logarithmic axis: it goes down to 0, over more than two orders of magnitude."""
    known = [value for value in values if value is not None]
    return mode == "min" and bool(known) and min(known) > 0 and math.log10(max(known) / min(known)) > 2
