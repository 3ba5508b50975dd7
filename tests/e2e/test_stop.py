"""A sweep that is ended on purpose: it saves itself, says what is left, and the same command finishes it."""

from __future__ import annotations

from pathlib import Path

from raysweep.history.sweep_state import SweepState
from tests.e2e.sweeps import add_paced_task, check_paths, check_resume, events_of, set_pace, start, submit, wait_for
from tests.ray_project import Project
from tests.waiting import PATIENCE_S


def test_after_raysweep_stop_the_same_command_finishes_the_sweep(local_cluster: Project, tmp_path: Path) -> None:
    add_paced_task(local_cluster, tmp_path / "pace", 0.5)
    place = tmp_path / "runs" / "stopped"
    command = (
        "asha", "--task", "paced", "--storage", str(place.parent), "--name", "stopped",
        "--samples", "12", "--resume", "auto",
    )  # fmt: skip

    first = start(local_cluster, "submit", *command)
    wait_for(place, "complete", 2)
    set_pace(tmp_path / "pace", 5)  # it must not end before it is asked to stop
    stopped = local_cluster.run("stop", "stopped")
    log, _ = first.communicate(timeout=PATIENCE_S)
    assert (stopped.returncode, stopped.stdout.split(": ")[-1]) == (0, "STOPPED\n")
    assert first.returncode == 1, log
    before = events_of(place)
    assert before[-1] == before[-1] | {"type": "end", "status": "interrupted"}
    left = 12 - SweepState(before).count("finished", "stopped")
    assert f"stopped with {left} trials to do: continue with --name stopped --resume auto" in log
    assert {"best.json", "trials.csv", "optuna.log", "report.html", "tensorboard"} <= {
        path.name for path in place.iterdir()
    }

    set_pace(tmp_path / "pace", 0)
    second = submit(local_cluster, *command)
    assert second.returncode == 0, second.stdout
    after = events_of(place)
    check_resume(before, after, samples=12)
    check_paths(place, SweepState(after).trials)
    assert after[-1]["status"] == "ended"
    listed = local_cluster.run("status", "stopped").stdout.splitlines()[1:]
    assert [line.split()[1] for line in listed] == ["SUCCEEDED", "STOPPED"]


def test_a_used_up_time_budget_keeps_what_is_there_and_a_resume_finishes_it(
    local_cluster: Project, tmp_path: Path
) -> None:
    add_paced_task(local_cluster, tmp_path / "pace", 0)
    place = tmp_path / "runs" / "budget"
    command = (
        "random_search", "--task", "paced", "--storage", str(place.parent), "--name", "budget",
        "--max-iterations", "1", "--concurrency", "2", "--resume", "auto",
    )  # fmt: skip
    assert submit(local_cluster, *command, "--samples", "4").returncode == 0
    four = events_of(place)

    set_pace(tmp_path / "pace", 5)  # four more trials, two at a time: 10 s, however fast the machine
    ended = submit(local_cluster, *command, "--samples", "8", "--time-budget", "6")
    assert ended.returncode == 0, ended.stdout
    before = events_of(place)
    assert before[: len(four)] == four
    assert before[-1]["time"] - before[len(four)]["time"] < 6 + 15, "a trial has 10 s to end itself"
    done = SweepState(before).count("finished")
    assert 4 <= done < 8
    assert f"the time budget of 6 s is used up with {8 - done} trials to do" in ended.stdout
    assert "Traceback" not in ended.stdout

    set_pace(tmp_path / "pace", 0)
    finished = submit(local_cluster, *command, "--samples", "8")
    assert finished.returncode == 0, finished.stdout
    assert "trials: 8 finished" in finished.stdout
    check_resume(before, events_of(place), samples=8)
