"""A real Prometheus for tests, and what they ask it about a sweep that runs; Debian's package `prometheus` has one."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysweep.clusters.ping import LOOPBACK
from raysweep.history import journal
from raysweep.loop.failures import Kind
from raysweep.storage import Storage
from tests.ray_project import ROOT, free_ports
from tests.waiting import until

PROGRAM = shutil.which("prometheus")
BOARD = ROOT / "k8s" / "components" / "monitoring" / "raysweep.json"
CONFIG = ROOT / "docker" / "prometheus.yaml"
needed = pytest.mark.skipif(PROGRAM is None, reason="NO PROMETHEUS: apt-get install prometheus")

# Of its four trials one finishes, one fails at its second iteration, and two wait: the journal stands still until the
# test has looked at it, and puts `go-on` beside it.
HELD_TASK = """
import time

from ray import tune

import raysweep
from raysweep.trial.session import spec

SPACE = {"role": tune.choice(["fails", "finishes", "holds", "holds too"])}
METRIC, MODE, MAX_ITERATIONS = "score", "max", 3
VALUES = {"fails": 0.9, "finishes": 0.5, "holds": 0.25, "holds too": 0.125}


def train(config):
    for iteration in raysweep.iterations():
        if iteration == 2 and config["role"] == "fails":
            raise ValueError("as it was told")
        while iteration == 3 and config["role"].startswith("holds") and not spec().storage.exists("go-on"):
            time.sleep(0.5)
        raysweep.report({"score": VALUES[config["role"]] - iteration / 100}, state=b"x" * 1000 * iteration)
"""
HELD_FLAGS = ("grid", "--task", "held", "--cpus-per-trial", "0.5", "--concurrency", "4")
HELD_EVENTS = {"result": 1 + 3 + 2 + 2, "failure": 1, "complete": 2}  # until two trials wait
STATUSES = ("pending", "running", "finished", "stopped", "failed", "infeasible")
TAG = {"trials": "status", "failures": "kind", "best": "metric"}  # of each figure: its own
NAMES = ("trials", "failures", "results", "checkpoints", "checkpoint_bytes", "checkpoint_stall_seconds", "best")


class Prometheus:
    """One that runs, by its HTTP API.

    Args:
        port: of it.
    """

    def __init__(self, port: str) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer; fails if it is an error."""
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        return told["data"]

    def values(self, query: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The values of an instant query, by these labels."""
        found = self.ask("query", query=query)["result"]
        return {tuple(each["metric"].get(label, "") for label in labels): float(each["value"][1]) for each in found}

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("status/buildinfo"))
        return False


@contextlib.contextmanager
def prometheus(config: Path, folder: Path) -> Iterator[Prometheus]:
    """Runs one until the context ends.

    Args:
        config: its file.
        folder: for its data, and the log of its errors.
    """
    assert PROGRAM is not None
    (port,) = free_ports(1)
    flags = {"config.file": config, "storage.tsdb.path": folder / "data", "web.listen-address": f"127.0.0.1:{port}"}
    command = [PROGRAM, *(f"--{name}={value}" for name, value in flags.items()), "--log.level=warn"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            running = Prometheus(port)
            until(running.is_up, lambda: f"Prometheus did not start: {(folder / 'log').read_text()}")
            yield running
        finally:
            process.terminate()


def config_of(project: Path, dashboard: str) -> Path:
    """The file for users in docker/, in their project, with the port of their dashboard; only it scrapes more often."""
    text = CONFIG.read_text().replace("http://127.0.0.1:8265", dashboard)
    assert dashboard in text
    settings = yaml.safe_load(text)
    settings["global"]["scrape_interval"] = "1s"
    (project / "docker").mkdir(exist_ok=True)
    path = project / "docker" / "prometheus.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def of_the_journal(events: list[dict[str, Any]], metric: str = "score") -> dict[tuple[str, str], float]:
    """What Prometheus should know, by figure and tag, counted from a journal's events."""
    status = {event["trial"]: "pending" for event in events if event["type"] == "suggest"}
    for event in events:
        if event["type"] in ("result", "failure", "complete"):
            status[event["trial"]] = {"result": "running", "failure": "pending"}.get(event["type"]) or event["status"]
    results = [event for event in events if event["type"] == "result"]
    saved = [event for event in results if event["checkpoint"]]
    kinds = Counter(event["kind"] for event in events if event["type"] == "failure")
    by_status = Counter(status.values())
    return {
        **{("trials", each): by_status[each] for each in STATUSES},
        **{("failures", str(kind)): kinds[kind] for kind in Kind},
        ("results", ""): len(results),
        ("checkpoints", ""): len(saved),
        ("checkpoint_bytes", ""): sum(event["checkpoint"]["size"] for event in saved),
        ("checkpoint_stall_seconds", ""): sum(event["stalled"] for event in saved),
        **({("best", metric): max(event["metrics"][metric] for event in results)} if results else {}),
    }


def of_prometheus(running: Prometheus, sweep: str) -> dict[tuple[str, str], float]:
    """The same, as Prometheus has it."""
    found: dict[tuple[str, str], float] = {}
    for name in NAMES:
        values = running.values(f'ray_raysweep_{name}{{sweep="{sweep}"}}', TAG.get(name, ""))
        found |= {(name, tag): value for (tag,), value in values.items()}
    return found


def unanswered(running: Prometheus, sweep: str) -> list[str]:
    """Queries of the board for Grafana, and of its menus, that bring no value of the sweep."""
    board = json.loads(BOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) > 10
    filled = [query.replace("$sweep", sweep).replace("$__rate_interval", "1m") for query in queries]
    assert not [query for query in filled if "$" in query]
    menus = [each["definition"] for each in board["templating"]["list"] if each["type"] == "query"]
    matches = [re.fullmatch(r"label_values\((\w+), (\w+)\)", menu) for menu in menus]
    assert matches
    assert all(matches)
    empty = [query for query in filled if (sweep,) not in running.values(query, "sweep")]
    listed = {match[0]: running.values(match[1], match[2]) for match in matches if match}
    return [*empty, *(menu for menu, values in listed.items() if (sweep,) not in values)]


def is_closed(running: Prometheus, *networks: str) -> bool:
    """Whether all that is scraped is on loopback, or in one of these networks."""
    targets = running.ask("targets")["activeTargets"]
    hosts = {urllib.parse.urlsplit(each["scrapeUrl"]).hostname or "" for each in targets}
    return bool(hosts) and all(host in LOOPBACK or host.startswith(networks) for host in hosts)


def check_live(running: Prometheus, place: Storage, sweep: str) -> None:
    """What Prometheus knows of a sweep of the task `held` is what its journal says, and the board's queries have some;
    then the sweep may go on.
    """
    try:
        until(lambda: _stands_still(place), "the sweep did not come to where it waits")
        expected = of_the_journal(journal.read(place))
        until(
            lambda: of_prometheus(running, sweep) == pytest.approx(expected, rel=1e-9),
            lambda: (of_prometheus(running, sweep), expected),
        )
        assert _stands_still(place)
        assert set(expected.values()) > {0, 1, 2, 8, 0.89}  # the comparison is one of numbers that differ
        places = f'ray_raysweep_places{{sweep="{sweep}",strategy="grid",task="held"}} > 0'
        until(lambda: running.values(places, "stage") == {("busy",): 2}, lambda: running.values(places, "stage"))
        assert running.values(f'ray_raysweep_planned_trials{{sweep="{sweep}"}}') == {(): 4}
        until(lambda: not unanswered(running, sweep), lambda: unanswered(running, sweep))
    finally:
        place.put("go-on", b"")


def _stands_still(place: Storage) -> bool:
    counts = Counter(event["type"] for event in journal.read(place))
    return all(counts[kind] == count for kind, count in HELD_EVENTS.items())
