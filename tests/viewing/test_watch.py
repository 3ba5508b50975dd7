"""Frame after frame: from a running sweep to its end, with its exit code."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console

from raysweep.errors import SweepFailed
from raysweep.history.lease import claim
from raysweep.storage import open_storage
from raysweep.viewing import watch as watch_module
from raysweep.viewing.watch import DETACHED, Watch
from tests import s3
from tests.reporting.sweeps import simulated
from tests.viewing.growing import Growing, complete, failure, result, start, suggest
from tests.waiting import until

END = {"type": "end", "status": "ended"}


class Out(io.StringIO):
    """What a terminal, or a pipe, has got."""

    def __init__(self, terminal: bool = False) -> None:
        super().__init__()
        self.console = Console(file=self, width=120, force_terminal=terminal or None)


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Growing:
    monkeypatch.setattr(watch_module, "OFTEN_S", 0.02)
    sweep = Growing(tmp_path)
    sweep.append(start(), suggest(0), result(0, 1, 0.5))
    return sweep


def test_once_shows_one_frame_and_takes_no_exit_code_for_a_running_sweep(growing: Growing) -> None:
    out = Out()
    assert Watch("mine", growing.storage, out.console).once() == 0
    assert out.getvalue().count("0 of 1 ended · 1 running") == 1
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("events", "code"),
    [([complete(0), END], 0), ([failure(0, "no"), complete(0, "failed"), END], 1),
     ([{"type": "end", "status": "interrupted"}], 1),
     ([{"type": "end", "status": "interrupted", "out_of_budget": True}], 0)],
)  # fmt: skip
def test_the_exit_code_is_that_of_the_sweep(growing: Growing, events: list, code: int) -> None:
    growing.append(*events)
    assert Watch("mine", growing.storage, Out().console).once() == code
    assert Watch("mine", growing.storage, Out().console).to_the_end() == code


def test_a_sweep_that_ends_by_its_time_budget_has_not_failed(tmp_path: Path) -> None:
    place = open_storage(str(tmp_path / "short"))
    found = simulated("random_search", 20, 5, storage=place, sweep_name="short", time_budget=30.0)
    assert found.state.count("finished") < 20
    out = Out()
    assert Watch("short", str(tmp_path), out.console).to_the_end() == 0
    assert "short · random_search · digits · interrupted" in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_it_ends_when_the_driver_has_left(growing: Growing, terminal: bool) -> None:
    out, codes = Out(terminal), list[int]()
    with claim(growing.place):
        watch = Watch("mine", growing.storage, out.console)
        thread = threading.Thread(target=lambda: codes.append(watch.to_the_end()))
        thread.start()
        growing.append(result(0, 2, 0.75))
        growing.append(complete(0), END)
        if terminal:
            until(lambda: "1 of 1 ended" in out.getvalue(), out.getvalue)
        thread.join(0.3)
        assert thread.is_alive()  # its files are not written yet
    thread.join()
    assert codes == [0]
    assert "accuracy 0.75, trial 00000, iteration 2" in out.getvalue()
    assert (out.getvalue().count("mine") > 1) is terminal  # in a pipe there is the last frame only
    assert ("\x1b" in out.getvalue()) is terminal


def test_a_driver_that_does_not_come_back_ends_it(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(growing.place).release()  # without the journal's last word
    monkeypatch.setattr(watch_module, "RETURNS_S", 0.1)
    with pytest.raises(SweepFailed, match=r"mine has had no driver for 0.1 s: .* --name mine --resume auto"):
        Watch("mine", growing.storage, Out().console).to_the_end()


def test_ctrl_c_leaves_the_sweep_alone(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch_module.time, "sleep", interrupt)
    out = Out()
    assert Watch("mine", growing.storage, out.console).to_the_end() == DETACHED
    assert "raysweep watch mine" in out.getvalue()


def test_a_store_that_is_away_for_a_while_is_said_and_waited_for(
    growing: Growing, s3_proxy: s3.S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.use(s3_proxy, monkeypatch)
    storage = f"{s3_proxy.new_bucket()}/runs"
    for key in growing.place.list():
        open_storage(storage).put(f"mine/{key}", growing.place.get(key))
    out = Out()
    watch = Watch("mine", storage, out.console)
    s3_proxy.unavailable()
    assert watch.once() == 0
    assert re.search(r"this is as of \d+ s ago: .*is not available", " ".join(out.getvalue().split()))
    assert "0 of 1 ended · 1 running" in out.getvalue()
    s3_proxy.heal()
    growing.append(complete(0), END)
    [key] = growing.place.list("journal")
    open_storage(storage).put(f"mine/{key}", growing.place.get(key))
    assert watch.to_the_end() == 0
    assert out.getvalue().count("this is as of") == 1
    s3_proxy.unavailable()
    monkeypatch.setattr(watch_module, "OUTAGE_S", 0.0)
    with pytest.raises(watch_module.Unavailable):
        watch.once()
