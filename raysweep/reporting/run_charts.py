"""The charts of the run itself: which trial worked when and where, and what population based training handed on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from raysweep.history.optuna_export import Axis
from raysweep.history.results import SweepResults, best_trial
from raysweep.history.sweep_state import TrialRecord
from raysweep.reporting.chart import BLUE, GREY, RED, STATUS, VIOLET, Chart, axis, evenly, number, text
from raysweep.reporting.ledger import Ledger, Spell, lanes

MOST_SPELLS = 4000
MOST_LANES = 64
MOST_MEMBERS = 40  # of a population, whose schedules are drawn


def by_node(ledger: Ledger) -> dict[str, list[tuple[Spell, int]]]:
    """The spells of each node, in the order of the nodes' first ones, each with its lane."""
    nodes: dict[str, list[Spell]] = defaultdict(list)
    for spell in ledger.spells:
        nodes[spell.node or "unknown node"].append(spell)
    return {node: lanes(spells) for node, spells in nodes.items()}


def busy_share(placed: list[tuple[Spell, int]], wall: float) -> float:
    """Which part of the time the lanes of a node were in use, from the sweep's start to its end."""
    count = 1 + max(lane for _, lane in placed)
    return sum(spell.ended - spell.began for spell, _ in placed) / (count * wall) if wall else 0.0


def timeline(results: SweepResults, ledger: Ledger) -> Chart | None:
    """Each trial's work on its node: a row for each place, idle time is what is left free."""
    nodes = by_node(ledger)
    rows = [(spell, f"{text(node)} · {lane + 1}") for node, placed in nodes.items() for spell, lane in placed]
    if not rows:
        return None
    names = list(dict.fromkeys(name for _, name in sorted(rows, key=lambda row: row[1])))[:MOST_LANES]
    drawn = evenly([row for row in rows if row[1] in set(names)], MOST_SPELLS)
    traces = []
    for status, colour in (*STATUS.items(), ("lost in a failure", RED)):
        part = [row for row in drawn if _state(results, row[0]) == status]
        if part:
            traces.append(_bars(status, colour, part))
    idle = "; ".join(f"{text(node)} {1 - busy_share(placed, ledger.wall):.0%}" for node, placed in nodes.items())
    left_out = "" if len(drawn) == len(rows) else f" {len(drawn)} of {len(rows)} spells are drawn."
    caption = (
        f"A row is a place of a node, a bar a trial at work, coloured by how the trial ended. Idle: {idle} of the time"
        f" of as many places as were ever in use at once.{left_out}"
    )
    layout = {
        "barmode": "overlay", "xaxis": axis("seconds of the sweep", range=[0, number(ledger.wall)]),
        "yaxis": axis("", type="category", categoryorder="array", categoryarray=names[::-1]), "hovermode": "closest",
        "bargap": 0.25,
    }  # fmt: skip
    return Chart("timeline", "Trials on nodes", caption, traces, layout, 150 + 26 * len(names))


def _state(results: SweepResults, spell: Spell) -> str:
    trial = results.state.trials.get(spell.trial)
    return "lost in a failure" if spell.lost else trial.status if trial else "pending"


def _bars(name: str, colour: str, rows: list[tuple[Spell, str]]) -> dict[str, Any]:
    return {
        "type": "bar", "orientation": "h", "name": name, "y": [row for _, row in rows],
        "x": [number(spell.ended - spell.began) for spell, _ in rows],
        "base": [number(spell.began) for spell, _ in rows],
        "text": [spell.trial for spell, _ in rows], "textposition": "none",
        "marker": {"color": colour, "opacity": 0.8, "line": {"width": 1, "color": "rgba(255,255,255,.7)"}},
        "hovertemplate": "trial %{text}<br>%{base:.4g} s for %{x:.3g} s<extra>" + name + "</extra>",
    }  # fmt: skip


def population(results: SweepResults, ledger: Ledger, axes: list[Axis]) -> list[Chart]:
    """Of population based training: who took over whose weights, and how each changed parameter went over time."""
    if not ledger.exploits:
        return []
    changed = [each for each in axes if any(_differs(each, event) for event in ledger.exploits)]
    line = ancestry(results, ledger)
    return [_lineage(results, ledger, line), *(_schedule(n, each, results, line) for n, each in enumerate(changed))]


def _differs(each: Axis, event: dict[str, Any]) -> bool:
    before, after = event.get("before", {}), event["after"]
    known = each.is_in(before) and each.is_in(after)
    return known and bool(each.value_in(before) != each.value_in(after))


def ancestry(results: SweepResults, ledger: Ledger) -> list[str]:
    """The best trial, and before it those whose weights its best result goes back to, the oldest last."""
    best = best_trial(results.state, results.objective)
    if best is None:
        return []
    line, seq = [best[0].id], best[1].seq
    for event in reversed(ledger.exploits):
        if event["trial"] == line[-1] and event["seq"] < seq:
            line.append(event["donor"])
            seq = event["seq"]
    return list(dict.fromkeys(line))


def _lineage(results: SweepResults, ledger: Ledger, line: list[str]) -> Chart:
    """Each trial is a row of iterations, each exploit an arrow from the donor's row."""
    rows = [trial for trial in results.state.trials.values() if trial.last]
    members: list[dict[str, Any]] = []
    for name, colour, part in (
        ("trial", GREY, [trial for trial in rows if trial.id not in line]),
        ("the best trial, and whose weights it has", BLUE, [trial for trial in rows if trial.id in line]),
    ):
        xs = [x for trial in part for x in (min(trial.results), max(trial.results), None)]
        ys = [y for trial in part for y in (trial.id, trial.id, None)]
        members.append({"type": "scatter", "mode": "lines", "name": name, "x": xs, "y": ys, "hoverinfo": "skip",
                        "line": {"color": colour, "width": 3}})  # fmt: skip
    steps = [(event["checkpoint"]["iteration"], event["donor"], event["trial"]) for event in ledger.exploits]
    arrows = {
        "type": "scatter", "mode": "lines+markers", "name": "takes over", "line": {"color": VIOLET, "width": 1.5},
        "x": [x for at, _, _ in steps for x in (at, at, None)],
        "y": [y for _, donor, trial in steps for y in (donor, trial, None)],
        "text": [t for at, donor, trial in steps for t in (*[f"trial {trial} goes on from trial {donor}"] * 2, None)],
        "marker": {"symbol": [s for _ in steps for s in ("circle", "diamond", "circle")], "size": 8, "color": VIOLET},
        "hovertemplate": "iteration %{x}: %{text}<extra></extra>",
    }  # fmt: skip
    caption = (
        f"{len(steps)} times a trial took over another one's weights: from the circle to the diamond. The best trial"
        f" and its donors are blue: {', '.join(line)}."
    )
    ids = [trial.id for trial in rows]
    layout = {
        "xaxis": axis("iteration"), "hovermode": "closest",
        "yaxis": axis("trial", type="category", categoryorder="array", categoryarray=ids[::-1]),
    }  # fmt: skip
    return Chart("lineage", "Lineage of the population", caption, [*members, arrows], layout, 170 + 24 * len(ids))


def _schedule(n: int, each: Axis, results: SweepResults, line: list[str]) -> Chart:
    """A parameter of each trial by iteration."""
    trials = list(results.state.trials.values())
    kept = [trial for trial in trials if trial.id in line[:1] or trial in evenly(trials, MOST_MEMBERS)]
    traces = []
    for name, colour, width, part in (
        ("trials", GREY, 1.3, [trial for trial in kept if trial.id not in line[:1]]),
        ("best trial", BLUE, 3.0, [trial for trial in kept if trial.id in line[:1]]),
    ):
        xs, ys, ids = _values(each, part)
        traces.append({"type": "scatter", "mode": "lines+markers", "name": name, "x": xs, "y": ys, "text": ids,
                       "line": {"shape": "hv", "color": colour, "width": width}, "marker": {"size": 4, "color": colour},
                       "opacity": 0.6 if colour == GREY else 1,
                       "hovertemplate": "trial %{text}<br>iteration %{x}: %{y}<extra></extra>"})  # fmt: skip
    log = bool(getattr(each.distribution, "log", False))
    layout = {"xaxis": axis("iteration"), "yaxis": axis(each.name, log), "hovermode": "closest"}
    caption = f"{each.name} of each trial, as it was changed while the trial ran."
    return Chart(f"schedule-{n}", f"{each.name} over time", caption, traces, layout, 340, wide=False)


def _values(each: Axis, trials: list[TrialRecord]) -> tuple[list[Any], list[Any], list[Any]]:
    xs: list[Any] = []
    ys: list[Any] = []
    ids: list[Any] = []
    for trial in trials:
        steps = [(i, each.value_in(r.config)) for i, r in sorted(trial.results.items()) if each.is_in(r.config)]
        shown = [(i, value if isinstance(value, bool | int | float) else text(value)) for i, value in steps]
        xs += [*(i for i, _ in shown), None]
        ys += [*(number(value) if isinstance(value, float) else value for _, value in shown), None]
        ids += [*([trial.id] * len(shown)), None]
    return xs, ys, ids
