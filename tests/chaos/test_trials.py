"""What a trial's own code may do, and what comes between two sweeps of one cluster: on one machine."""

from __future__ import annotations

import psutil
import pytest

from raysweep.history.sweep_state import SweepState
from tests.chaos import task
from tests.chaos.cell import TOGETHER, Cell, Verdict
from tests.chaos.conftest import Make
from tests.chaos.test_processes import BEFORE, Judge, armed, side_by_side
from tests.waiting import until


def unfailed(verdict: Verdict) -> Verdict:
    """The same, with a problem if any trial failed, even if it went on."""
    if verdict.failures:
        verdict.problems.append(f"{verdict.failures} failures")
    return verdict


@pytest.mark.tenth("hyperband")
@pytest.mark.fault("odd-ends")
def test_every_trial_ends_oddly(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """So that whatever comes last in a rung is no ordinary result; nobody waits for a trial that has left."""

    def fault(cell: Cell) -> Verdict:
        cell.finish()
        state = SweepState(cell.events)
        came = {trial for trial, iteration, *_ in cell.steps() if iteration > task.AT}
        failed = {trial for trial in came if task.odd_end(trial) in ("raises", "hangs")}
        verdict = cell.verdict(code=1 if failed else 0, failed=len(failed))
        if {t.id for t in state.trials.values() if t.status == "failed"} != failed:
            verdict.problems.append(f"I5 other trials failed than {failed}")
        if {kind for trial in failed for kind in state.trials[trial].kinds} - {"exception", "timeout"}:
            verdict.problems.append(f"classified as {[state.trials[trial].kinds for trial in failed]}")
        verdict.met = bool(came)
        return verdict

    flags = ("--trial-timeout", "8")
    judge(side_by_side([make(strategy, habit="odd-ends", flags=flags) for strategy in strategies], fault))


@pytest.mark.fault("odd-report")
def test_a_report_cannot_be_stored(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """A failure of that trial by name; the others do not notice."""

    def fault(cell: Cell) -> Verdict:
        verdict = cell.finish().verdict()
        errors = [event["error"] for event in cell.events if event["type"] == "failure"]
        if len(errors) != 1 or "`other`" not in errors[0]:
            verdict.problems.append(f"failures: {errors}")
        return verdict

    cells = [armed(make(strategy, flags=("--max-failures", "1")), "odd-report") for strategy in strategies]
    judge(side_by_side(cells, fault))


@pytest.mark.fault("save-refused")
def test_a_save_fails_and_the_trial_reports_again(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """No iteration is skipped, and nothing has failed."""

    def fault(cell: Cell) -> Verdict:
        verdict = unfailed(cell.finish().verdict())
        verdict.met = not (cell.folder / "save-refused").exists()
        for trial in SweepState(cell.events).trials.values():
            if not trial.donors and list(trial.results) != list(range(1, len(trial.results) + 1)):
                verdict.problems.append(f"trial {trial.id} reported {list(trial.results)}")
        return verdict

    judge(side_by_side([armed(make(strategy), "save-refused") for strategy in strategies], fault))


@pytest.mark.fault("slow-clean-up")
def test_each_trial_cleans_up_for_long(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    def fault(cell: Cell) -> Verdict:
        return unfailed(cell.finish().verdict())

    judge(side_by_side([make(strategy, habit="slow-clean-up") for strategy in strategies], fault))


def killed_once(cell: Cell) -> Cell:
    """To the end of a sweep whose driver was killed once."""
    victim = cell.after(BEFORE).driver
    victim.kill()
    psutil.wait_procs([victim])
    cell.heal()
    return cell.finish()


@pytest.mark.tenth("asha")
@pytest.mark.fault("metric-sparse")
def test_only_every_second_report_has_the_metric(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    def fault(cell: Cell) -> Verdict:
        return unfailed(killed_once(cell).verdict())

    judge(side_by_side([make(strategy, habit="sparse") for strategy in strategies], fault))


@pytest.mark.fault("config-changed")
def test_each_trial_empties_its_configuration(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """It is the trial's own: the journal, and what the next driver starts again, have it whole."""

    def fault(cell: Cell) -> Verdict:
        verdict = killed_once(cell).verdict()
        state = SweepState(cell.events)
        emptied = [t.id for t in state.trials.values() if not {"x", "y", "pace"} <= t.config.keys()]
        if emptied or verdict.failures:
            verdict.problems.append(f"{verdict.failures} failures, without a configuration: {emptied}")
        return verdict

    judge(side_by_side([make(strategy, habit="changes-config") for strategy in strategies], fault))


@pytest.mark.fault("last-lines")
def test_the_driver_is_killed_in_the_last_lines_of_a_trial(
    make: Make, strategies: tuple[str, ...], judge: Judge
) -> None:
    """What comes after the loop runs to its end for each complete trial, if need be once more."""

    def fault(cell: Cell) -> Verdict:
        driver = cell.driver
        until(lambda: list(cell.folder.glob("begun-*")), "a trial beyond its last iteration")
        driver.kill()
        cell.heal()
        verdict = cell.finish().verdict()
        complete = {t.id for t in SweepState(cell.events).trials.values() if t.last.iteration == task.MAX_ITERATIONS}
        if without := {trial for trial in complete if not (cell.folder / f"done-{trial}").exists()}:
            verdict.problems.append(f"the last lines of {without} did not run to their end")
        return verdict

    judge(side_by_side([make(strategy, habit="last-lines") for strategy in strategies], fault))


@pytest.mark.fault("second-sweep")
def test_a_second_sweep_comes_to_a_full_cluster(make: Make, strategies: tuple[str, ...], judge: Judge) -> None:
    """It gets a place when a trial of the first one ends, not when all have."""

    def fault(strategy: str) -> list[Verdict]:
        full = ("--cpus-per-trial", "2", *(() if strategy in TOGETHER else ("--concurrency", "4")))
        first, second = (make(strategy, flags=full, pace=1.2) for _ in range(2))
        first.start().after(1)
        second.start()
        verdicts = [cell.finish().verdict() for cell in (first, second)]
        asked = min(event["time"] for event in second.events if event["type"] == "start")
        began = min(event["time"] for event in second.events if event["type"] == "result")
        ended = max(event["time"] for event in first.events if event["type"] == "complete")
        for verdict in verdicts:
            verdict.met = asked < ended
        if began > ended > asked:
            verdicts[1].problems.append(f"it waited for the first one's end: {began - ended:.1f} s longer")
        return verdicts

    judge([verdict for strategy in strategies for verdict in fault(strategy)])
