"""Faults of processes, a trial's, the driver's, the job's, and of what a trial computes: on one machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from raysweep.history import checkpoint
from raysweep.history.checkpoint import Checkpoint
from raysweep.history.sweep_state import SweepState
from tests.chaos import task
from tests.chaos.cell import Cell, Verdict
from tests.chaos.conftest import Make
from tests.waiting import until

Judge = Callable[[Sequence[Verdict]], None]
BEFORE = 10  # results that are journalled when a fault comes from outside
PAIR = 2  # cells side by side


def side_by_side(cells: Sequence[Cell], fault: Callable[[Cell], Verdict]) -> list[Verdict]:
    """Runs cells two at a time, each with its fault, to its end."""
    with ThreadPoolExecutor(PAIR) as pool:
        return list(pool.map(lambda cell: fault(cell.start()), cells))


@pytest.mark.fault("trial-killed")
def test_a_trials_process_is_killed(
    make: Make, strategies: tuple[str, ...], judge: Judge, leftovers: Callable[[], list[psutil.Process]]
) -> None:
    def fault(cell: Cell) -> Verdict:
        victim = cell.after(BEFORE).trial_process()
        assert victim in leftovers(), "what finds processes that are left finds one that runs"
        victim.kill()
        cell.heal()
        verdict = cell.finish().verdict()
        kinds = {event["kind"] for event in cell.events if event["type"] == "failure"}
        if kinds != {"lost"}:
            verdict.problems.append(f"classified as {kinds}")
        return verdict

    judge(side_by_side([make(strategy) for strategy in strategies], fault))


@pytest.mark.fault("worker-killed")
def test_one_of_a_trials_workers_is_killed(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """The trial is lost as a whole, and goes on from its checkpoint with two new ones."""

    def fault(cell: Cell) -> Verdict:
        cell.after(BEFORE).trial_process(noted="others").kill()
        cell.heal()
        verdict = cell.finish().verdict()
        lost = [event for event in cell.events if event["type"] == "failure"]
        if [(event["kind"], event["error"][: len("worker 1: ")]) for event in lost] != [("lost", "worker 1: ")]:
            verdict.problems.append(f"failures: {[(event['kind'], event['error']) for event in lost]}")
        return verdict

    flags = ("--workers-per-trial", "2", "--cpus-per-trial", "0.25")
    judge(side_by_side([make(strategy, flags=flags) for strategy in strategies], fault))


@pytest.mark.tenth("asha")
@pytest.mark.fault("trial-memory")
def test_a_trial_runs_out_of_memory_once(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """It starts again with twice the CPUs, and ends well."""

    def fault(cell: Cell) -> Verdict:
        verdict = cell.finish().verdict()
        kinds = [event["kind"] for event in cell.events if event["type"] == "failure"]
        if kinds != ["memory"]:
            verdict.problems.append(f"failures: {kinds}")
        return verdict

    judge(side_by_side([armed(make(strategy), "memory") for strategy in strategies], fault))


@pytest.mark.fault("nan")
def test_a_metric_becomes_nan(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """That trial is stopped, never the best, and the exit code is 0."""

    def fault(cell: Cell) -> Verdict:
        verdict = cell.finish().verdict()
        state = SweepState(cell.events)
        diverged = [
            t for t in state.trials.values() if any(r.metrics["loss"] != r.metrics["loss"] for r in t.results.values())
        ]
        if [trial.status for trial in diverged] != ["stopped"] or diverged[0].last.iteration != 3:
            verdict.problems.append(f"diverged: {[(trial.id, trial.status) for trial in diverged]}")
        return verdict

    judge(side_by_side([armed(make(strategy), "nan") for strategy in strategies], fault))


@pytest.mark.tenth("asha")
@pytest.mark.fault("trial-hung")
def test_a_trial_hangs_in_c(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """--report-timeout ends its process, and it goes on from its last checkpoint."""

    def fault(cell: Cell) -> Verdict:
        verdict = cell.finish().verdict()
        kinds = [event["kind"] for event in cell.events if event["type"] == "failure"]
        if kinds != ["hang"]:
            verdict.problems.append(f"failures: {kinds}")
        return verdict

    cells = [armed(make(strategy, flags=("--report-timeout", "8")), "hang") for strategy in strategies]
    judge(side_by_side(cells, fault))


@pytest.mark.fault("exception")
def test_a_trial_raises_and_is_allowed_to(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    def fault(cell: Cell) -> Verdict:
        verdict = cell.finish().verdict()
        if cell.count("failure") != 1:
            verdict.problems.append(f"{cell.count('failure')} failures")
        return verdict

    judge(
        side_by_side([armed(make(strategy, flags=("--max-failures", "1")), "raise") for strategy in strategies], fault)
    )


@pytest.mark.fault("exception-charged")
def test_a_trial_raises_beyond_what_is_allowed(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """Exit code 1, the first traceback, and every other trial ended well."""

    def fault(cell: Cell) -> Verdict:
        verdict = cell.finish().verdict(code=1, failed=1)
        if "ValueError: the data is upside down" not in cell.log:
            verdict.problems.append("the traceback is not told")
        return verdict

    judge(side_by_side([armed(make(strategy), "raise") for strategy in strategies], fault))


def armed(cell: Cell, fault: str) -> Cell:
    cell.arm(fault)
    return cell


@pytest.mark.tenth("asha", "hyperband", "pbt")
@pytest.mark.fault("driver-killed")
def test_the_driver_is_killed_twice_in_a_row(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """Its supervisor starts it again; the journal only ever grows."""

    def fault(cell: Cell) -> Verdict:
        journals = []
        for results in (BEFORE, BEFORE + 8):
            cell.after(results)
            victim = cell.driver
            victim.kill()
            psutil.wait_procs([victim])
            journals.append(cell.events)
        cell.heal()
        verdict = cell.finish().verdict()
        if any(cell.events[: len(before)] != before for before in journals):
            verdict.problems.append("I9 the journal of before is not the beginning of the one of after")
        return verdict

    judge(side_by_side([make(strategy, faults=2) for strategy in strategies], fault))


@pytest.mark.fault("driver-hung")
def test_the_driver_is_suspended(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """SIGSTOP, and the same command again: it takes over when the lease has lapsed, and what woke up writes nothing."""

    def fault(cell: Cell) -> Verdict:
        suspended = cell.after(BEFORE).driver
        first = cell.process
        suspended.suspend()
        cell.start("--resume", "auto")
        until(lambda: cell.count("start") == 2, "the second driver has begun")
        suspended.resume()
        cell.heal()
        verdict = cell.finish().verdict()
        if first.wait(120) == 0:
            verdict.problems.append("the driver that lost the sweep ended with 0")
        return verdict

    judge([fault(make(strategy).start()) for strategy in strategies])


@pytest.mark.tenth("tpe_asha")
@pytest.mark.fault("state-damaged")
def test_the_job_is_killed_and_what_it_left_is_damaged(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """Half a line at the end of the journal, and half a last checkpoint of every trial that runs."""
    judge(left_damaged(make, strategies))


@pytest.mark.tenth("asha")
@pytest.mark.fault("folder-damaged")
def test_a_file_of_the_last_folders_is_damaged(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """The same with checkpoints that are folders: half a file of each."""
    judge(left_damaged(make, strategies, habit="folders"))


def left_damaged(make: Make, strategies: tuple[str, ...], habit: str = "") -> list[Verdict]:
    """The job is killed, what it left is damaged, and the same command goes on."""

    def fault(cell: Cell) -> Verdict:
        cell.after(BEFORE)
        driver = cell.driver
        until(lambda: saved(cell), "a trial that runs has a checkpoint")
        cell.process.kill()
        cell.process.wait()
        psutil.wait_procs([driver], timeout=60)
        until(lambda: not _of(cell), "its trials' processes are gone", 60)
        damaged = damage(cell)
        cell.start("--resume", "auto").heal()
        verdict = cell.finish().verdict()
        if not damaged:
            verdict.problems.append("nothing was there to be damaged")
        return verdict

    # A damaged checkpoint costs the interval before it, too.
    return side_by_side([make(strategy, faults=2, pace=0.3, habit=habit) for strategy in strategies], fault)


def _of(cell: Cell) -> list[int]:
    return [pid for pid in {line[3] for line in cell.steps()} if psutil.pid_exists(pid)]


def damage(cell: Cell) -> int:
    """How many checkpoints are half gone now."""
    root = Path(cell.place.url)
    newest = sorted((root / "journal").iterdir())[-1]
    with newest.open("a") as file:
        file.write('{"seq": 1000, "type": "res')
    damaged = saved(cell)
    for last in damaged:
        saved_as = f"{checkpoint.FILES}/{task.STATE}" if last.folder else checkpoint.STATE
        with (root / last.key / saved_as).open("r+b") as file:
            file.truncate(file.seek(0, os.SEEK_END) // 2)
    return len(damaged)


def saved(cell: Cell) -> list[Checkpoint]:
    """The last checkpoints of trials that run and that have another one before it."""
    last = [trial.checkpoint for trial in SweepState(cell.events).unfinished]
    return [each for each in last if each and each.iteration > 1]


@pytest.mark.fault("submitted-twice")
def test_the_same_sweep_is_submitted_twice(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """The second is refused with exit code 2, and the first does not notice."""

    def fault(cell: Cell) -> Verdict:
        cell.after(BEFORE // 2)
        second = subprocess.run(
            [*cell.command(), "--resume", "auto"], cwd=cell.project.folder, capture_output=True, text=True, timeout=120,
            env=cell.env,
        )  # fmt: skip
        verdict = cell.finish().verdict()
        if second.returncode != 2 or "is being run by" not in second.stderr:
            verdict.problems.append(f"the second ended with {second.returncode}: {second.stderr[-500:]}")
        return verdict

    judge(side_by_side([make(strategy, pace=0.6) for strategy in strategies], fault))


@pytest.mark.tenth("pbt")
@pytest.mark.fault("stopped")
def test_the_job_is_asked_to_end(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """SIGTERM: running trials report what they are at, nothing is repeated by the resume."""

    def fault(cell: Cell) -> Verdict:
        cell.after(BEFORE)
        os.kill(cell.process.pid, signal.SIGTERM)
        cell.finish()
        stopped = cell.code
        cell.start("--resume", "auto").heal()
        verdict = cell.finish().verdict()
        if stopped != 1:
            verdict.problems.append(f"a stopped sweep ended with {stopped}")
        return verdict

    judge(side_by_side([make(strategy, pace=0.4) for strategy in strategies], fault))


@pytest.mark.tenth("asha")
@pytest.mark.fault("disk-full")
def test_the_disk_is_full(make: Make, strategies: tuple[str, ...], judge: Judge, disk: Path) -> None:
    """Exit code 1 at once, with what is safe; once there is room, the same command finishes the sweep."""

    def fault(cell: Cell) -> Verdict:
        cell.start().after(BEFORE)
        filler = disk / f"filler-{cell.folder.name}"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(2**16)):
                    pass
            except OSError:
                pass
        cell.finish()
        full = (cell.code, "No space left" in cell.log or "full" in cell.log)
        filler.unlink()
        cell.start("--resume", "auto").heal()
        verdict = cell.finish().verdict()
        if full != (1, True):
            verdict.problems.append(f"a full disk: {full}: {cell.log[-800:]}")
        return verdict

    judge([fault(make(strategy, storage=str(disk / "runs"))) for strategy in strategies])


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
