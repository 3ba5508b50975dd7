"""The page: what stands in it, what of a user's could break out of it, and how large it is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from raysweep.history import results
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import SweepState, first_line
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.simulation import Fault, Step
from raysweep.reporting import judgement
from raysweep.reporting.ledger import Ledger
from raysweep.reporting.page import failures, share_of
from raysweep.reporting.write import NAME, page_of, write, write_if_possible
from raysweep.storage import FolderStorage
from tests.loop.sweeps import draw
from tests.reporting.sweeps import large, simulated

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"


class Parsed(HTMLParser):
    """The tags of a page and its text, scripts apart."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts = "", []  # type: str, list[str]
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        last = self.tags[-1][0] if self.tags else ""
        if last == "script":
            self.scripts.append(data)
        elif last != "style":
            self.text += f"{data}\n"

    @property
    def shown(self) -> str:
        return " ".join(self.text.split())

    @property
    def figures(self) -> dict:
        return next(json.loads(each) for each in self.scripts if each.startswith("{"))


@pytest.fixture(scope="module")
def evil() -> SweepResults:
    """A sweep with tags in whatever a user may name, and in what failed."""
    found = simulated("random_search", 12, 3, sweep_name="s", faults={("00001", 2): Fault(ValueError(EVIL), times=9)})
    spec = found.spec | {"task": EVIL, "knobs": {"a": EVIL}, "flags": {"task": EVIL}, "code": EVIL}
    return replace(found, spec=spec)


def test_nothing_of_a_user_becomes_a_tag(evil: SweepResults) -> None:
    page = page_of([evil])
    parsed = Parsed(page)
    assert [attrs for tag, attrs in parsed.tags if tag == "script"] == [
        {"type": "application/json", "id": "figures"},
        {"nonce": (nonce := parsed.tags[-1][1]["nonce"])},
        {"nonce": nonce},
    ]
    assert not [tag for tag, _ in parsed.tags if tag == "img"]
    assert parsed.text.count("alert('x')") >= 4  # it is all there, as text
    assert not [attrs for _, attrs in parsed.tags if any(name.startswith("on") for name in attrs)]
    head = page[: page.index(b"</head>")].decode()
    assert f"script-src 'nonce-{nonce}' 'unsafe-eval'" in head
    assert "default-src 'none'" in head


def test_nothing_is_loaded_from_anywhere(evil: SweepResults) -> None:
    tags = Parsed(page_of([evil])).tags
    links = [attrs.get(name) for _, attrs in tags for name in ("src", "href") if attrs.get(name)]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links if link)


def test_the_headline_is_the_best_trial_of_best_json() -> None:
    found = simulated("tpe_asha", 20, knobs={"startup_trials": 5})
    shown = Parsed(page_of([found])).shown
    best = found.best
    assert f"{best['accuracy']:.6g} accuracy · trial {best['trial']}, iteration {best['iteration']}" in shown
    assert all(f"{best['config'][key]:.6g}" in shown for key in ("lr", "momentum"))
    counts = found.table.status.value_counts()
    assert f"{counts['finished']} finished · {counts['stopped']} stopped" in shown
    spent = sum(r.metrics["time_this_iter_s"] for t in found.state.trials.values() for r in t.results.values())
    assert f"{spent:.4g} CPU-s" in shown
    assert "seed 0" in shown
    assert "0123456789abcdef" in shown


def test_the_best_configuration_can_be_given_as_points() -> None:
    found = simulated("random_search", 3, 2)
    [point] = json.loads(judgement.points(found, found.best))
    assert point == {"config": found.best["config"]}


@pytest.mark.parametrize(("strategy", "offered"), [("tpe_asha", True), ("pbt", False)])
def test_it_offers_to_verify_what_one_configuration_repeats(strategy: str, offered: bool) -> None:
    found = simulated(strategy, 8)
    commands = [step.command for step in judgement.next_steps(found, found.best, "s3://mine/runs")]
    assert ("raysweep verify digits-run --top 3 --seeds 5 --storage s3://mine/runs" in commands) is offered


def test_the_front_can_be_given_as_points() -> None:
    found = simulated("multi_objective", 20, 2, knobs={"second_metric": "size"})
    assert [p["config"] for p in json.loads(judgement.points(found, None))] == [each["config"] for each in found.front]
    assert f"{len(found.front)} trials on the Pareto front" in Parsed(page_of([found])).shown


def test_1000_trials_of_100_iterations_are_less_than_8_mb() -> None:
    page = page_of([large(MemoryStorage(), 1000, 100)])
    assert 4_000_000 < len(page) < 8_000_000


def test_the_page_of_a_running_sweep_reloads_itself_and_says_when_it_was_made() -> None:
    found = simulated("random_search", 4, 2)
    running = replace(found, state=SweepState((found.state.events or [])[:-1]))
    assert running.state.status == "running"
    for sweep, expected in ((running, ["30"]), (found, [])):
        tags = Parsed(page_of([sweep])).tags
        assert [attrs["content"] for _, attrs in tags if attrs.get("http-equiv") == "refresh"] == expected
    assert re.search(r"running, last event 1970-01-01 .* as of 20\d\d-", Parsed(page_of([running])).shown)


def test_several_sweeps_are_one_page_with_one_chart_of_all() -> None:
    one, other = (simulated("random_search", 5, 3, sweep_name=name, seed=n) for n, name in enumerate(("a", "b")))
    parsed = Parsed(page_of([one, other]))
    together, bests = parsed.figures["together"]["data"], [one.best["accuracy"], other.best["accuracy"]]
    assert [trace["name"] for trace in together] == ["a", "b"]
    assert [trace["y"][-1] for trace in together] == pytest.approx(bests, rel=1e-5)
    ids = [attrs["id"] for _, attrs in parsed.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    assert set(parsed.figures) <= set(ids)


@pytest.mark.parametrize("name", ["hyperband", "pbt", "tpe_asha", "median_stopping", "grid"])
def test_no_two_elements_have_one_id(name: str) -> None:
    knobs = {"resolution": 2} if name == "grid" else {}
    parsed = Parsed(page_of([simulated(name, 1 if name == "grid" else 12, 9, places=12, knobs=knobs)]))
    ids = [attrs["id"] for _, attrs in parsed.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    assert set(parsed.figures) <= set(ids)


def test_a_sweep_without_any_trial_has_a_page() -> None:
    found = simulated("random_search", 4, 2)
    empty = replace(found, state=SweepState((found.state.events or [])[:1]))
    assert "No trial has reported accuracy yet." in Parsed(page_of([empty])).shown


def test_a_damaged_sweep_has_a_page_that_says_so() -> None:
    found = simulated("random_search", 4, 2)
    spec = {key: found.spec[key] for key in ("metrics", "modes")}
    shown = Parsed(page_of([replace(found, spec=spec, url="runs/mine", damage=("line 3 is no event",))])).shown
    assert "A part of the journal cannot be read: line 3 is no event" in shown
    assert "mine" in shown


def test_what_a_driver_has_noted_counts_and_else_what_the_flags_say() -> None:
    found = simulated("random_search", 2, 1, cpus_per_trial=2.0, gpus_per_trial=0.5)
    assert share_of(found, Ledger()) == {"cpus": 2, "gpus": 0.5, "workers": 1}
    noted = Ledger(settings=[{"share": {"cpus": 1, "gpus": 0, "workers": 3}}, {"type": "start"}])
    assert share_of(found, noted) == {"cpus": 1, "gpus": 0, "workers": 3}


TRACEBACK = 'ray::Actor.run()\n  File "train.py", line 3, in train\n    fit()\nValueError: bad shape\nsecond line'


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (TRACEBACK, "ValueError: bad shape"),
        ("the process was lost", "the process was lost"),
        ("", "no error was recorded"),
    ],
)
def test_the_line_of_a_failure_says_what_happened(error: str, line: str) -> None:
    assert first_line(error) == line


def test_failures_are_counted_by_kind_and_line() -> None:
    faults = {(f"0000{n}", 1): Fault(ValueError("same" if n < 3 else "other"), times=9) for n in range(4)}
    found = simulated("random_search", 6, 2, faults=faults, max_failures=1)
    told = [(each["kind"], each["count"], each["line"].partition(": ")[2]) for each in failures(found)]
    assert told == [("exception", 6, "same"), ("exception", 2, "other")]


def test_findings_tell_an_edge_a_late_best_and_failures() -> None:
    found = simulated("random_search", 8, 3, faults={("00002", 1): Fault(ValueError("no"), times=9)})
    shown = Parsed(page_of([found])).shown
    assert "1 of 8 trials failed for good" in shown
    place = list(found.state.trials).index(found.best["trial"]) + 1
    expected = f"came late, {place} of 8" if place > 6 else f"was number {place} of 8"
    assert expected in shown


def test_it_is_written_beside_the_results(tmp_path) -> None:
    place = FolderStorage(str(tmp_path / "s"))
    simulated("random_search", 3, 2, storage=place, sweep_name="s")
    write(place)
    assert (tmp_path / "s" / NAME).read_bytes().startswith(b"<!doctype html>")
    assert results.FILES == ("trials.csv", "best.json", "optuna.log")


@pytest.mark.parametrize(("seconds", "brief"), [(4.9, True), (5.1, False)])
def test_the_page_of_a_short_sweep_is_brief(seconds: float, brief: bool) -> None:
    place = MemoryStorage()
    simulated("random_search", 20, 1, places=20, storage=place, outcome=lambda *_: Step({"accuracy": draw(_)}, seconds))
    write(place)
    parsed = Parsed(place.get(NAME))
    assert ("s0-importance" not in parsed.figures) is brief
    assert ("Add the importance of the parameters" in parsed.shown) is brief


def test_what_fails_is_a_warning(caplog) -> None:
    assert write_if_possible(MemoryStorage()) >= 0
    assert "report.html could not be written, the journal has everything: NotFound: memory:// has no" in caplog.text
