"""`raysweep delete` and `raysweep prune`: what they ask, say and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raysweep.cli import cli
from raysweep.history import lease, results
from raysweep.storage import open_storage
from tests.reporting.sweeps import simulated


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an ended sweep with checkpoints, in the default storage."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYSWEEP_STORAGE", raising=False)
    place = open_storage(str(tmp_path / "runs" / "mine"))
    with lease.claim(place):
        simulated("random_search", 3, 2, storage=place, sweep_name="mine")
    return tmp_path / "runs" / "mine"


def run(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli, words, input=answer)


@pytest.mark.parametrize("words", [["mine"], ["runs/mine"], ["mine", "--storage", "runs"]])
def test_delete_asks_with_the_place_and_the_size(sweep: Path, words: list[str]) -> None:
    done = run("delete", *words, answer="y\n")
    assert done.exit_code == 0
    assert f"delete {sweep} (" in done.output
    assert f"deleted {sweep}: " in done.output
    assert not sweep.exists()


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_any_other_answer_deletes_nothing(sweep: Path, answer: str) -> None:
    before = open_storage(str(sweep)).sizes()
    assert run("delete", "mine", answer=answer).exit_code == 1
    assert open_storage(str(sweep)).sizes() == before


def test_with_yes_nobody_is_asked(sweep: Path) -> None:
    done = run("delete", "mine", "--yes")
    assert (done.exit_code, done.output.count("\n")) == (0, 1)
    assert not sweep.exists()


@pytest.mark.parametrize("command", [["delete", "mine", "--yes"], ["prune", "mine", "--keep", "best"]])
def test_a_running_sweep_is_refused(sweep: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    with lease.claim(open_storage(str(sweep))):
        refused = run(*command)
    assert refused.exit_code == 2
    assert f"error: the sweep in {sweep} is being run by driver " in refused.output
    assert results.read("mine", str(sweep.parent)).load() is not None


@pytest.mark.parametrize("command", [["delete", "mime", "--yes"], ["prune", "mime", "--keep", "best"]])
def test_a_missing_sweep_is_told_with_the_nearest_one(sweep: Path, command: list[str]) -> None:
    refused = run(*command)
    assert refused.exit_code == 2
    assert refused.output.startswith("error: there is no sweep `mime` in ")
    assert "(did you mean `mine`?)" in refused.output


def test_prune_says_what_went_and_what_stayed(sweep: Path) -> None:
    best = results.read("mine", str(sweep.parent)).best
    assert best is not None
    done = run("prune", "mine", "--keep", "best")
    assert done.exit_code == 0
    assert done.output.startswith("removed the checkpoints of 2 trials: ")
    assert done.output.endswith(f"; kept: {best['trial']}\n")
    assert [path.name for path in (sweep / "checkpoints").iterdir()] == [best["trial"]]


def test_prune_wants_to_be_told_what_to_keep(sweep: Path) -> None:
    refused = run("prune", "mine")
    assert refused.exit_code == 2
    assert "--keep" in refused.output
    assert len(list((sweep / "checkpoints").iterdir())) == 3
