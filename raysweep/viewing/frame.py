"""One look at a sweep, as it stands in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raysweep.history.live import Live
from raysweep.history.results import pareto_front
from raysweep.history.sweep_state import ENDED
from raysweep.loop.progress import configuration_text, eta_text
from raysweep.viewing.tally import WINDOW_S, Driver, Tally

STYLES = {Driver.RUNS: "green", Driver.SILENT: "bold red"}
COLOURS = {"finished": "green", "stopped": "yellow", "failed": "red", "infeasible": "red", "running": "cyan"}
BETWEEN = " · "


def frame(tally: Tally, driver: Driver, live: Live | None, note: str = "") -> RenderableType:
    """What is shown of a sweep.

    Args:
        tally: its events so far.
        driver: what is known of the process that runs it.
        live: what only that knows, as far as it has said so.
        note: what hinders the view, such as a storage that does not answer.
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, shown in _rows(tally, driver, live if driver is Driver.RUNS else None):
        table.add_row(title, shown)
    warnings = [*tally.sweep.damage, *([note] if note else [])]
    return Group(_head(tally, driver), table, *(_plain(each, "red") for each in warnings))


def _rows(tally: Tally, driver: Driver, live: Live | None) -> Iterable[tuple[str, Text]]:
    yield "trials", _trials(tally, live)
    yield from _best(tally)
    yield "results", _results(tally, driver, live)
    if driver is Driver.RUNS:
        yield "ETA", Text(eta_text(live.seconds_left if live else None))
        yield "places", Text(_places(live))
    if tally.failed:
        yield "failures", _failures(tally)


def _head(tally: Tally, driver: Driver) -> Text:
    spec, status = tally.sweep.spec, tally.sweep.state.status
    head = Text(BETWEEN.join(_printable(f"{spec[key]}") for key in ("name", "strategy", "task") if key in spec), "bold")
    head.append(BETWEEN)
    head.append(status if driver in (Driver.GONE, Driver.LEAVES) else driver.value, STYLES.get(driver, ""))
    if tally.last:
        when = datetime.fromtimestamp(tally.last, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        head.append(f"{BETWEEN}last event {when}", "not bold")
    return head


def _trials(tally: Tally, live: Live | None) -> Text:
    state = tally.sweep.state
    total = max(live.total if live else 0, len(state.trials))
    shown = Text(f"{state.count(*ENDED)} of {total} ended")
    for status in (*ENDED, "running", "pending"):
        if count := state.count(status):
            shown.append(BETWEEN)
            shown.append(f"{count} {status}", COLOURS.get(status, ""))
    return shown


def _best(tally: Tally) -> Iterable[tuple[str, Text]]:
    objective = tally.sweep.objective
    if not objective.single:
        front = pareto_front(tally.sweep.state, objective)
        yield "Pareto front", _plain(f"{len(front)} trials, by {', '.join(objective.metrics)}")
    elif found := tally.best:
        trial, result = found
        metric = objective.metrics[0]
        value = f"{metric} {result.metrics[metric]:.6g}, trial {trial.id}, iteration {result.iteration}"
        yield "best", _plain(value, "bold")
        yield "", _plain(configuration_text(result.config))
    else:
        yield "best", _plain(f"no trial has reported {objective.metrics[0]} yet")


def _results(tally: Tally, driver: Driver, live: Live | None) -> Text:
    """The rate is by the driver's own clock, which the time in `live` and in the events is of."""
    rate = tally.rate(max(tally.last, live.time if live else 0.0)) if driver is Driver.RUNS else None
    average = tally.results / tally.wall if tally.wall else None
    rates = [
        f"{tally.results} in {eta_text(tally.wall)}",
        *([f"{rate:.3g} a second in the last {WINDOW_S:g} s"] if rate is not None else []),
        *([f"{average:.3g} a second on average"] if average is not None else []),
    ]
    return Text(BETWEEN.join(rates))


def _places(live: Live | None) -> str:
    if live is None:
        return "not known yet"
    nodes = f" on {live.nodes} {'node' if live.nodes == 1 else 'nodes'}" if live.nodes else ""
    starting = f"{BETWEEN}{live.starting} starting" if live.starting else ""
    return f"{live.busy} of {live.places} busy{nodes}{starting}"


def _failures(tally: Tally) -> Text:
    more = f", the last {len(tally.failures)} of them" if tally.failed > len(tally.failures) else ""
    lines = [f"{tally.failed}{more}"]
    lines += [f"{each.trial}  {each.kind}  {each.line}" for each in reversed(tally.failures)]
    return Text("\n").join(_plain(line) for line in lines)


def _plain(text: str, style: str = "") -> Text:
    return Text(_printable(text), style)


def _printable(text: str) -> str:
    """What a user's code says, without what would move the cursor or change a terminal's colours."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
