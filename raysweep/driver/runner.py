"""Runs a sweep that preflight has passed: loop -> journal -> results. All strategies share this path."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from ray import tune

from raysweep.driver import capacity
from raysweep.driver.supervisor import Heart
from raysweep.errors import SweepFailed
from raysweep.history import results
from raysweep.history.export import export
from raysweep.history.journal import Journal
from raysweep.history.lease import Lease
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import ENDED, SweepState
from raysweep.loop.assemble import Assembly
from raysweep.loop.loop import Plan
from raysweep.loop.observers import Observers
from raysweep.loop.progress import Progress
from raysweep.loop.ray_executor import RayExecutor
from raysweep.loop.recorder import Recorder
from raysweep.loop.stopping import SweepLimits
from raysweep.loop.tensorboard import TensorBoard
from raysweep.spec import space
from raysweep.spec.flags import Flags
from raysweep.spec.sweep import Strategy, Sweep
from raysweep.storage import Storage
from raysweep.trial.actor import TrialSpec


class Runner:
    """One run of a sweep, from an empty or a found journal to its results."""

    def __init__(
        self, strategy: Strategy, sweep: Sweep, flags: Flags, knobs: Any, config: tune.TuneConfig, place: Storage
    ) -> None:
        self.sweep, self.flags, self.knobs, self.place = sweep, flags, knobs, place
        self.strategy, self.parts = strategy, Assembly(config, sweep, flags)

    @property
    def plan(self) -> Plan:
        """What the loop is to do; the cluster is connected."""
        largest = {"cpus": capacity.largest_node("CPU"), "gpus": capacity.largest_node("GPU")}
        return self.parts.plan(self._places(), largest)

    def _places(self) -> int:
        return max(1, capacity.places(self.flags.cpus_per_trial, self.flags.gpus_per_trial))

    def executor(self) -> RayExecutor:
        """What runs the trials. Its places are asked for at once: they start while data are loaded."""
        flags, task = self.flags, self.sweep.task
        spec = TrialSpec(
            train=task.train,
            storage=self.place,
            max_iterations=self.sweep.max_iterations,
            numeric=self.parts.metrics,
            finite=self.parts.must_be_finite,
            timeout=self.parts.hard_timeout,
        )
        log_name = task.name.rpartition(".")[2]
        executor = RayExecutor(
            spec, self.sweep.name, self.parts.share, log_name, task.reuse_actors, flags.cleanup_timeout
        )
        executor.want(min(self.parts.concurrency(self._places()), self.parts.total))
        return executor

    def run(self, executor: RayExecutor, lease: Lease, state: SweepState | None) -> SweepResults:
        """Runs the sweep to its end, and writes what it found.

        Args:
            executor: what runs the trials.
            lease: of the sweep, held.
            state: what its journal says, if there is one.

        Raises:
            SweepFailed: trials failed beyond what was allowed, none reported, or the sweep was ended before its time.
        """
        resumed, state = state is not None, state or SweepState()
        spec = self._write_spec()
        log = Journal(self.place, lease.term, state.seq)
        recorder = Recorder(self.place, log, state, self.sweep.metric, self.sweep.mode, lease)
        self._greet(state, resumed)
        recorder.begin(resumed)
        try:
            limits = self.parts.run(self.plan, executor, recorder, self._observers(state))
        finally:
            log.close()
            found = SweepResults(self.place.url, spec, state)
            if lease.holds():
                export(self.place, found)
        click.echo(results.summary(found))
        self._judge(limits, state)
        return found

    def _observers(self, state: SweepState) -> Observers:
        metric, mode = self.sweep.metric, self.sweep.mode
        progress = Progress(state, metric, mode, self.parts.total, self.sweep.max_iterations)
        # The heart first: it rests while the others close, which a slow store may make last.
        return Observers([Heart(), progress, TensorBoard(self.place, metric, state)])

    def _write_spec(self) -> dict[str, Any]:
        mode = getattr(self.parts.searcher, "mode", None)
        spec = {
            "name": self.sweep.name,
            "task": self.sweep.task.name,
            "strategy": self.sweep.strategy,
            "metrics": list(self.parts.metrics),
            "modes": mode if isinstance(mode, list) else [self.sweep.mode],
            "seed": self.sweep.seed,
            "flags": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self.flags).items()},
            "knobs": dataclasses.asdict(self.knobs),
            "samples": self.sweep.samples,
            "max_iterations": self.sweep.max_iterations,
            "space": space.describe(self.sweep.space),
            "code": code_hash(self.sweep.task.train, self.strategy.tune_config),
            "versions": {name: version(name) for name in ("ray", "optuna", "numpy")},
            "python": sys.version.split()[0],
        }
        self.place.put("sweep.json", (json.dumps(spec, indent=2) + "\n").encode())
        return spec

    def _greet(self, state: SweepState, resumed: bool) -> None:
        ended, total = state.count(*ENDED), self.parts.total
        kept = f", {ended} of them done before" if resumed else ""
        click.echo(f"sweep {self.sweep.name}: {self.sweep.strategy} on {self.sweep.task.name}, {total} trials{kept}")
        click.echo(f"storage {self.place.url}")

    def _judge(self, limits: SweepLimits, state: SweepState) -> None:
        """Whether the exit code may be 0.

        Raises:
            SweepFailed: it may not, and why.
        """
        go_on = f"continue with --name {self.sweep.name} --resume auto"
        left = self.parts.left(state)
        if limits.refused:
            raise SweepFailed(
                f"{limits.refused}\nthe sweep was ended, since its trials cannot save: what {state.count(*ENDED)}"
                f" trials have done, and the last checkpoints of the others, are safe: mend the storage, then {go_on}"
            )
        failed = [trial for trial in state.trials.values() if trial.status == "failed"]
        if failed:
            same = f"; all of them the same way, so {left} were not begun" if limits.hopeless and left else ""
            raise SweepFailed(
                f"{len(failed)} trials failed{same}; the first, trial {failed[0].id}:\n{failed[0].failures[0]}"
            )
        reported = any(trial.results for trial in state.trials.values())
        if left:
            why = f"the time budget of {limits.budget:g} s is used up" if limits.out_of_time else "stopped"
            told = f"{why} with {left} trials to do: {go_on}"
            if not (limits.out_of_time and reported):
                raise SweepFailed(told)
            click.echo(told)
        elif not reported:
            raise SweepFailed("no trial reported a result")


def code_hash(*functions: Callable[..., Any]) -> str:
    """Hash of the source files that these functions come from, for sweep.json."""
    digest = hashlib.sha256()
    for function in functions:
        path = getattr(inspect.getmodule(function), "__file__", None)
        digest.update(Path(path).read_bytes() if path else b"")
    return digest.hexdigest()[:16]
