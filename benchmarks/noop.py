"""What a sweep costs whose trials do nothing: plain Ray Tune, Optuna alone, raysweep, and an earlier raysweep.

Each trial reports a number so many times. Each arm lives in a process of its own with a Ray of its own, warmed up once,
and they take turns (A B C A B C …). Printed for each case and arm: the median of all turns in seconds, with the first
result and the driver's CPU time where they are known, the ratio to raysweep turn by turn with its spread, at last
what a further trial and a further result cost.

    python benchmarks/noop.py --turns 3
    git worktree add /tmp/before 7e1d31c && python benchmarks/noop.py --before /tmp/before
    python benchmarks/noop.py --case 10000x1 --case 1000x1 --arm raysweep
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

CASES = ("20x1", "200x1", "1000x1", "20x100")
PROCESSES = 2
SLOW = 20  # trials of a turn, beyond which Ray Tune with its defaults is left out: each has a process of its own


@dataclass(frozen=True)
class Case:
    """How many trials with how many reports each; `saves` if each report has a checkpoint."""

    trials: int
    reports: int
    saves: bool = False

    @classmethod
    def of(cls, text: str) -> Case:
        """`200x10`, or `200x10s` with checkpoints."""
        trials, _, reports = text.rstrip("s").partition("x")
        return cls(int(trials), int(reports), text.endswith("s"))


@dataclass(frozen=True)
class Took:
    """Seconds of one turn: in all, until the first result, and of the driver's CPU; its memory in MiB at most."""

    wall: float
    first: float | None = None
    cpu: float | None = None
    memory: float | None = None


# The arms; each runs in its own process.


def raysweep_arm() -> Callable[[Case, Path], float | None]:
    """A sweep by random search with its defaults."""
    from ray import tune

    import raysweep
    from raysweep.driver import local_ray
    from raysweep.history import journal
    from raysweep.storage import open_storage

    def train(config: dict[str, Any]) -> None:
        for step in raysweep.iterations():
            raysweep.report({"loss": config["x"] ** 2 / step})

    def train_and_save(config: dict[str, Any]) -> None:
        for step in raysweep.iterations():
            raysweep.report({"loss": config["x"] ** 2 / step}, state=step)

    def run(case: Case, folder: Path) -> float | None:
        began = time.time()
        found = raysweep.run(
            "random_search", train_and_save if case.saves else train, {"x": tune.uniform(-1.0, 1.0)}, metric="loss",
            mode="min", samples=case.trials, max_iterations=case.reports, storage=folder,
        )  # fmt: skip
        assert found.state.count("finished") == case.trials
        events = journal.read(open_storage(found.url))
        return next(float(event["time"]) for event in events if event["type"] == "result") - began

    local_ray.start()
    return run


def tune_arm(reuse: bool) -> Callable[[Case, Path], float | None]:
    """Ray Tune as its documentation uses it, or with actors that are used again."""
    import ray
    from ray import tune

    class First(tune.Callback):
        at = 0.0

        def on_trial_result(self, *_: Any, **__: Any) -> None:
            self.at = self.at or time.time()

    def train(config: dict[str, Any]) -> None:
        for step in range(1, config["reports"] + 1):
            tune.report({"loss": config["x"] ** 2 / step})

    def run(case: Case, folder: Path) -> float | None:
        first, began = First(), time.time()
        tune.Tuner(
            train,
            param_space={"x": tune.uniform(-1.0, 1.0), "reports": case.reports},
            tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=case.trials, reuse_actors=reuse),
            run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[first]),
        ).fit()
        return first.at - began

    ray.init(include_dashboard=False, log_to_driver=False)
    return run


def optuna_worker(path: str, trials: int, reports: int) -> None:
    """One of Optuna's processes."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
    sampler = optuna.samplers.RandomSampler()
    study = optuna.create_study(study_name="noop", storage=storage, sampler=sampler, load_if_exists=True)

    def objective(trial: Any) -> float:
        loss = float(trial.suggest_float("x", -1.0, 1.0) ** 2)
        for step in range(1, reports):
            trial.report(loss / step, step)
        return loss

    study.optimize(objective, n_trials=trials)


def optuna_arm() -> Callable[[Case, Path], float | None]:
    """Optuna with two processes that share a journal file, start of the processes included."""

    def run(case: Case, folder: Path) -> float | None:
        spawn = multiprocessing.get_context("spawn")
        share = [case.trials // PROCESSES + (i < case.trials % PROCESSES) for i in range(PROCESSES)]
        path = str(folder / "journal.log")
        workers = [spawn.Process(target=optuna_worker, args=(path, n, case.reports)) for n in share]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return None

    return run


ARMS: dict[str, Callable[[], Callable[[Case, Path], float | None]]] = {
    "raysweep": raysweep_arm,
    "before": raysweep_arm,
    "Tune": lambda: tune_arm(reuse=False),
    "Tune, reuse": lambda: tune_arm(reuse=True),
    "Optuna, 2 processes": optuna_arm,
}


def serve(arm: str) -> None:
    """Runs what comes on standard input, a case a line, and answers with what it took; prints of the arm go nowhere."""
    answers, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123
    run = ARMS[arm]()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            began, cpu = time.perf_counter(), time.process_time()
            first = run(Case.of(line.strip()), Path(folder))
            took = (time.perf_counter() - began, first, time.process_time() - cpu)
        print(json.dumps([*took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]), file=answers, flush=True)


class Arm:
    """An arm's process."""

    def __init__(self, name: str, package: Path) -> None:
        self.name, self._home = name, tempfile.TemporaryDirectory()
        path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).absolute()), "--serve", name],
            env=os.environ | {"PYTHONPATH": path, "HOME": self._home.name}, cwd=package,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has ended")
        return line

    def turn(self, case: str) -> Took:
        """One turn of a case."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{case}\n")
        self._process.stdin.flush()
        wall, first, cpu, memory = json.loads(self._answer())
        driver = None if self.name.startswith("Optuna") else cpu
        return Took(wall, first, driver, memory)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._home.cleanup()


def takes_part(arm: str, case: str) -> bool:
    """Whether an arm runs a case: what would take an hour, or says nothing, is left out."""
    asked = Case.of(case)
    if arm.startswith(("Tune", "Optuna")) and asked.saves:
        return False
    return arm != "Tune" or asked.trials <= SLOW


def middle(values: list[float | None]) -> str:
    """The median, or nothing where it is not known."""
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):8.2f}" if known else " " * 8


def show(case: str, took: dict[str, list[Took]]) -> None:
    """Prints a case's table."""
    click.echo(f"\n{case}   seconds: all, first result, driver's CPU; MiB; ratio to raysweep (least to most)")
    for name, turns in took.items():
        ratios = [a.wall / b.wall for a, b in zip(turns, took.get("raysweep", turns), strict=True)]
        columns = [middle([getattr(turn, part) for turn in turns]) for part in ("wall", "first", "cpu", "memory")]
        spread = f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        click.echo(f"  {name:20} {' '.join(columns)}   {spread}")


def slope(took: dict[str, dict[str, list[Took]]], less: str, more: str, what: str, count: int) -> None:
    """Prints what one more of something costs each arm, from two cases."""
    for arm in took.get(more, {}):
        if arm in took.get(less, {}):
            pairs = zip(took[less][arm], took[more][arm], strict=True)
            each = [(b.wall - a.wall) * 1000 / count for a, b in pairs]
            click.echo(f"  {arm:20} {statistics.median(each):7.2f} ms ({min(each):.2f} to {max(each):.2f})  {what}")


@click.command()
@click.option("--case", "cases", multiple=True, default=CASES, show_default=True, help="TRIALSxREPORTS; s: saves.")
@click.option("--arm", "arms", multiple=True, type=click.Choice(list(ARMS)), help="Those to run; all if not given.")
@click.option("--turns", default=3, show_default=True, help="How often each arm is run.")
@click.option("--before", type=click.Path(path_type=Path, exists=True), help="Checkout of an earlier raysweep.")
@click.option("--serve", "served", hidden=True)
def main(cases: tuple[str, ...], arms: tuple[str, ...], turns: int, before: Path | None, served: str | None) -> None:
    """Print what no-op sweeps cost each arm."""
    if served:
        serve(served)
        return
    own = Path(__file__).parents[1]
    chosen = [name for name in arms or ARMS if name != "before" or before]
    running = [Arm(name, before.absolute() if name == "before" and before else own) for name in chosen]
    took: dict[str, dict[str, list[Took]]] = {}
    try:
        for arm in running:
            arm.turn("4x1")
        for case in cases:
            took[case] = {arm.name: [] for arm in running if takes_part(arm.name, case)}
            for _ in range(turns):
                for arm in running:
                    if arm.name in took[case]:
                        took[case][arm.name].append(arm.turn(case))
            show(case, took[case])
    finally:
        for arm in running:
            with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
                arm.close()
    click.echo("\none more of them")
    slope(took, "200x1", "1000x1", "a trial, 200x1 to 1000x1", 800)
    slope(took, "200x1s", "1000x1s", "a trial with a checkpoint, 200x1s to 1000x1s", 800)
    slope(took, "1000x1", "10000x1", "a trial, 1000x1 to 10000x1", 9000)
    slope(took, "20x1", "20x100", "a result, 20x1 to 20x100", 20 * 99)


if __name__ == "__main__":
    main()
