"""The page of one or several sweeps: everything in one HTML file, which needs no network and no server."""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps

from raysweep.history.optuna_export import axes_of
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import ENDED, TrialRecord, first_line
from raysweep.reporting import judgement, parameter_charts, progress_charts, run_charts
from raysweep.reporting.chart import COLOURS, Chart, axis, text
from raysweep.reporting.importance import importances
from raysweep.reporting.ledger import Ledger, rungs
from raysweep.reporting.scores import scored
from raysweep.spec import described
from raysweep.values import flat, to_json

HERE = Path(__file__).parent
ROWS = 20  # of the table of trials
LONGEST_ERROR = 6000  # characters
MOST_CHOICE = 200  # characters of one value in a table


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading with charts."""

    id: str
    title: str
    charts: list[Chart]


def render(sweeps: Sequence[SweepResults], now: float, reload: float, brief: bool = False) -> bytes:
    """The page.

    Args:
        sweeps: with their events; what is shown is as old as they are.
        now: seconds since the epoch, for the page's own date.
        reload: seconds after which the page of a running sweep reloads itself.
        brief: without the importance of the parameters, whose evaluator takes seconds to import.
    """
    views = [_View(n, results, brief).content for n, results in enumerate(sweeps)]
    together = _together(sweeps, [view["best_so_far"][2] for view in views]) if len(sweeps) > 1 else []
    charts = [*together, *(chart for view in views for section in view["sections"] for chart in section.charts)]
    page = _template().render(
        sweeps=views,
        together=together,
        figures=htmlsafe_json_dumps({chart.id: chart.figure for chart in charts}, dumps=_dumps),
        plotly=_plotly(),
        style=(HERE / "page.css").read_text(),
        script=(HERE / "page.js").read_text(),
        nonce=secrets.token_hex(16),
        made=_date(now),
        refresh=round(reload) if any(view["running"] for view in views) else None,
        title=", ".join(str(results.spec["name"]) for results in sweeps),
        events=" ".join(str(results.state.seq) for results in sweeps),
    )
    return page.encode()


def _dumps(value: Any, **_: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


@functools.cache
def _plotly() -> str:
    """The source of plotly.js, as the package has it; it has nothing that would end its element."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")


@functools.cache
def _template() -> jinja2.Template:
    """With everything escaped that is not marked as safe."""
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), **options)  # type: ignore[arg-type]
    environment.filters |= {"value": _value, "duration": judgement.seconds, "date": _date}
    return environment.get_template("page.html.j2")


def _value(value: Any) -> str:
    """A value of a user in a cell."""
    shown = value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else to_json(value)
    return shown if len(shown) <= MOST_CHOICE else f"{shown[:MOST_CHOICE]} …"


def _date(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class _View:
    """One sweep, as the template has it."""

    def __init__(self, number: int, results: SweepResults, brief: bool = False) -> None:
        self._results, self._prefix, self._brief = results, f"s{number}-", brief
        self._ledger = Ledger.of(results.state.events or [])
        self._share = share_of(results, self._ledger)
        self._rungs = rungs(results.state, int(results.spec.get("max_iterations") or 1))
        self._scored = scored(results)
        self._axes = axes_of(results, described.domains(results.spec.get("space", {})))

    @property
    def content(self) -> dict[str, Any]:
        """Everything that is shown of it."""
        results, spec = self._results, self._results.spec
        storage = results.url.removesuffix(f"/{spec['name']}")
        shown = results.best if results.objective.single else None
        rows = judgement.best_rows(results, self._scored, ROWS)
        return {
            "id": self._prefix.rstrip("-"),
            "name": spec["name"],
            "spec": spec,
            "url": results.url,
            "running": results.state.status == "running",
            "status": self._status(),
            "metrics": results.objective.metrics,
            "modes": results.objective.modes,
            "best": shown and {**shown, "value": shown["metrics"][results.objective.metrics[0]]},
            "front": results.front if not results.objective.single else [],
            "points": judgement.points(results, shown),
            "tiles": self._tiles(),
            "findings": judgement.findings(results, self._axes, self._scored),
            "steps": judgement.next_steps(results, shown, storage, self._brief),
            "sections": [section for section in self._sections() if section.charts],
            "rungs": self._rungs,
            "failures": failures(results),
            "rows": rows,
            "columns": list(dict.fromkeys(key for row in rows for key in flat(row["config"]))),
            "flat": flat,
            "starts": self._starts(),
            "best_so_far": progress_charts.best_so_far(results, self._ledger, self._share, self._scored),
        }

    def _status(self) -> str:
        """Running is what the journal says; a driver that was killed has not written anything else."""
        status = self._results.state.status or "not started"
        events = self._results.state.events or []
        last = f", last event {_date(float(events[-1].get('time', 0.0)))}" if events and status == "running" else ""
        return f"{status}{last}"

    def _starts(self) -> list[dict[str, Any]]:
        hidden = ("seq", "type", "crc32", "term")
        return [{k: v for k, v in event.items() if k not in hidden} for event in self._ledger.settings]

    def _tiles(self) -> list[tuple[str, str, str]]:
        """Headline numbers: what, how much, and what that is made of."""
        state, ledger = self._results.state, self._ledger
        counts = {status: state.count(status) for status in (*ENDED, "running", "pending")}
        unit, per_second = progress_charts.cost_unit(self._share)
        spared = sum(rung.spared for rung in self._rungs)
        saved = spared / (spared + ledger.work) if spared else 0.0
        lost = ledger.repeated + ledger.broken
        failed = sum(len(trial.failures) for trial in state.trials.values())
        lives = len(ledger.settings)
        return [
            ("Trials", str(len(state.trials)), " · ".join(f"{n} {status}" for status, n in counts.items() if n)),
            ("Wall time", judgement.seconds(ledger.wall), f"in {lives} runs" if lives > 1 else "from start to end"),
            ("Work", _cost(ledger.work * per_second, unit), self._shares()),
            ("Saved by early stopping", f"{saved:.0%}" if self._rungs else "nothing",
             f"about {_cost(spared * per_second, unit)} of stopped trials" if self._rungs else "no trial was stopped"),
            ("Cost of failures", _cost(lost * per_second, unit), f"{failed} failures" if failed else "none"),
        ]  # fmt: skip

    def _shares(self) -> str:
        names = {"cpus": "CPU", "gpus": "GPU", "workers": "workers"}
        parts = [f"{self._share[key]:g} {name}" for key, name in names.items() if self._share.get(key)]
        return " · ".join(part for part in parts if part != "1 workers") + " a trial"

    def _sections(self) -> list[Section]:
        results, ledger, axes = self._results, self._ledger, self._axes
        curves = [
            progress_charts.learning_curves(results, self._scored),
            progress_charts.rungs_chart(results, self._rungs),
        ]
        parameters = [
            parameter_charts.importance_chart(None if self._brief else importances(results, axes)),
            parameter_charts.parallel_coordinates(results, axes, self._scored),
            *parameter_charts.slices(results, axes, self._scored),
        ]
        groups: list[tuple[str, str, Sequence[Chart | None]]] = [
            ("progress", "Progress", progress_charts.best_so_far(results, ledger, self._share, self._scored)),
            ("pareto", "Pareto front", progress_charts.pareto(results, self._scored)),
            ("training", "Training", curves),
            ("population", "Population", run_charts.population(results, ledger, axes)),
            ("parameters", "Parameters", parameters),
            ("timeline", "Timeline", [run_charts.timeline(results, ledger)]),
        ]
        return [Section(f"{self._prefix}part-{id}", title, self._named(charts)) for id, title, charts in groups]

    def _named(self, charts: Sequence[Chart | None]) -> list[Chart]:
        return [replace(chart, id=self._prefix + chart.id) for chart in charts if chart]


def share_of(results: SweepResults, ledger: Ledger) -> dict[str, float]:
    """The resources of a trial: as the newest driver has noted them, else as the flags say, else one CPU."""
    for event in reversed(ledger.settings):
        if isinstance(event.get("share"), dict):
            return dict(event["share"])
    flags = results.spec.get("flags", {})
    return {
        "cpus": float(flags.get("cpus_per_trial") or 1.0),
        "gpus": float(flags.get("gpus_per_trial") or 0.0),
        "workers": float(flags.get("workers_per_trial") or 1),
    }


def _cost(amount: float, unit: str) -> str:
    """`432 CPU-s`, and hours of more than two."""
    name = unit.removesuffix("-seconds")
    return f"{amount:.4g} {name}-s" if amount < 7200 else f"{amount / 3600:.4g} {name}-h"


def failures(results: SweepResults) -> list[dict[str, Any]]:
    """The failures by kind and first line, the most frequent first, each with one of its trials and the whole text."""
    found: dict[tuple[str, str], list[tuple[TrialRecord, int]]] = {}
    for trial in results.state.trials.values():
        for n, (kind, error) in enumerate(zip(trial.kinds, trial.failures, strict=True)):
            found.setdefault((kind, first_line(error)), []).append((trial, n))
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return [
        {
            "kind": kind,
            "line": line,
            "count": len(cases),
            "trials": [trial.id for trial, _ in cases][:ROWS],
            "error": cases[0][0].failures[cases[0][1]][-LONGEST_ERROR:],
            "printed": "\n".join(cases[0][0].printed[cases[0][1]]),
        }
        for (kind, line), cases in ordered
    ]


def _together(sweeps: Sequence[SweepResults], charts: Sequence[Chart]) -> list[Chart]:
    """The sweeps of the page in one chart, by the time of CPUs or GPUs, if they optimise the same metric."""
    if len({results.objective for results in sweeps}) != 1:
        return []
    traces = [
        {**chart.data[0], "name": text(results.spec["name"]),
         "line": {"shape": "hv", "color": COLOURS[n % len(COLOURS)], "width": 2.5}}
        for n, (results, chart) in enumerate(zip(sweeps, charts, strict=True))
    ]  # fmt: skip
    metric = sweeps[0].objective.metrics[0]
    units = sorted({chart.layout["xaxis"]["title"]["text"] for chart in charts})
    caption = f"The best {metric} so far of each sweep. One sweep each: a difference may be noise."
    layout = {"xaxis": axis(" or ".join(units), rangemode="tozero"), "yaxis": axis(metric)}
    return [Chart("together", "Best so far of all sweeps", caption, traces, layout, 380)]
