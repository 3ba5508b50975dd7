"""Runs a sweep that preflight has passed: Tuner -> journal -> results. All strategies share this path."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import logging
import math
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining
from ray.tune.search import Searcher

from raysweep import preflight, results, space
from raysweep.errors import SweepFailed
from raysweep.flags import Flags
from raysweep.journal import Journal
from raysweep.progress import Progress
from raysweep.record import Recorder
from raysweep.results import SweepResults
from raysweep.source import TrialSource
from raysweep.state import SweepState
from raysweep.storage import Storage
from raysweep.sweep import Strategy, Sweep
from raysweep.tensorboard import TensorBoard
from raysweep.trial import TrialSpec, trainable
from raysweep.variants import Variants

HARD_TIMEOUT_GRACE_S = 5.0
TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal and TensorBoard are ours
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Ray's own snapshot is never read: do not spend time on it
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: no tables
}


class _Stop(tune.Stopper):
    """Ends trials that are complete, or that have used up their time."""

    def __init__(self, max_iterations: int, timeout: float | None) -> None:
        self._max_iterations, self._timeout = max_iterations, timeout or math.inf

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return result["training_iteration"] >= self._max_iterations or result["time_total_s"] >= self._timeout

    def stop_all(self) -> bool:
        return False


class Runner:
    """One run of a sweep, from an empty or a found journal to its results."""

    def __init__(
        self,
        strategy: Strategy,
        sweep: Sweep,
        flags: Flags,
        knobs: Any,
        config: tune.TuneConfig,
        place: Storage,
        state: SweepState | None,
    ) -> None:
        self.sweep, self.flags, self.knobs, self.config, self.place = sweep, flags, knobs, config, place
        self.strategy, self.resumed = strategy, state is not None
        self.state = state or SweepState()
        self.scheduler = config.scheduler or FIFOScheduler()
        self.searcher: Searcher = config.search_alg
        self.population = isinstance(self.scheduler, PopulationBasedTraining)

    @property
    def total(self) -> int:
        """Trials of the whole sweep."""
        if isinstance(self.searcher, Variants):
            return self.searcher.total(self.sweep.samples)
        return self.sweep.samples

    def run(self) -> SweepResults:
        spec = self._write_spec()
        # PBT has no seed of its own: it draws from these two.
        random.seed(self.sweep.seed)
        np.random.seed(self.sweep.seed)
        log = Journal(self.place, self.state.seq)
        recorder = Recorder(self.place, log, self.state, *self._objective(), keep_all=self.population)
        board = TensorBoard(self.place, self.sweep.metric)
        self._greet()
        recorder.begin(self.resumed)
        interrupted = True
        try:
            interrupted = self._fit(recorder, board)
        finally:
            recorder.end("interrupted" if interrupted else "ended")
            board.close()
            recorder.close()
            log.close()
            found = SweepResults(self.place.url, spec, self.state)
            results.export(self.place, found)
        click.echo(results.summary(found))
        self._judge(interrupted)
        return found

    def _objective(self) -> tuple[str, str]:
        return self.sweep.metric, self.sweep.mode

    def _write_spec(self) -> dict[str, Any]:
        metric, mode = getattr(self.searcher, "metric", None), getattr(self.searcher, "mode", None)
        many = isinstance(metric, list)
        spec = {
            "name": self.sweep.name,
            "task": self.sweep.task.name,
            "strategy": self.sweep.strategy,
            "metrics": metric if many else [self.sweep.metric],
            "modes": mode if many else [self.sweep.mode],
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

    def _greet(self) -> None:
        ended, total = self.state.count("finished", "stopped", "failed"), self.total
        kept = f", {ended} of them done before" if self.resumed else ""
        click.echo(f"sweep {self.sweep.name}: {self.sweep.strategy} on {self.sweep.task.name}, {total} trials{kept}")
        click.echo(f"storage {self.place.url}")

    def _fit(self, recorder: Recorder, board: TensorBoard) -> bool:
        shared = TrialSpec(
            train=self.sweep.task.train,
            data=self._data(),
            storage=self.place,
            max_iterations=self.sweep.max_iterations,
            timeout=self.flags.trial_timeout + HARD_TIMEOUT_GRACE_S if self.flags.trial_timeout else None,
        )
        progress = Progress(self.state, *self._objective(), self.total, self.sweep.max_iterations)
        concurrency = self._concurrency()
        os.environ |= TUNE_SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(int(min(concurrency, self.total)))}
        source = TrialSource(self.searcher, recorder, concurrency, self.scheduler, self.sweep.max_iterations)
        # It looks for the result files of Ray's loggers, which are off.
        logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
        with tempfile.TemporaryDirectory(prefix="raysweep-") as scratch, _interruptible() as interrupt:
            self._tuner(shared, source, [recorder, board, progress], scratch).fit()
            return interrupt.seen

    def _data(self) -> ray.ObjectRef | None:
        task = self.sweep.task
        if task.load_data is None or not task.takes_data:
            return None
        return ray.put(task.load_data(self.flags.data))

    def _concurrency(self) -> float:
        if isinstance(self.scheduler, preflight.SYNCHRONOUS):
            return math.inf
        if self.flags.concurrency is not None:
            return self.flags.concurrency
        held = ray.cluster_resources()
        shares = [
            (self.flags.cpus_per_trial, held.get("CPU", 0.0)),
            (self.flags.gpus_per_trial, held.get("GPU", 0.0)),
        ]
        return max(1, min(int(have / want) for want, have in shares if want))

    def _tuner(
        self, shared: TrialSpec, source: TrialSource, callbacks: list[tune.Callback], scratch: str
    ) -> tune.Tuner:
        """Ray's Tuner; its own state goes to a scratch folder, since the journal is what a sweep is resumed from."""
        single = not isinstance(self.searcher.metric, list)
        name = self.sweep.task.name.replace(".", "_")
        bundle = {"CPU": self.flags.cpus_per_trial, "GPU": self.flags.gpus_per_trial}
        resources = tune.PlacementGroupFactory([{kind: share for kind, share in bundle.items() if share}])
        return tune.Tuner(
            tune.with_resources(trainable(shared, name), resources),
            param_space=self.sweep.space,
            tune_config=dataclasses.replace(
                self.config,
                metric=self.sweep.metric if single else None,
                mode=self.sweep.mode if single else None,
                search_alg=source,
                scheduler=self.scheduler,
                num_samples=self.total,
                time_budget_s=self.flags.time_budget,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=self.sweep.name,
                storage_path=scratch,
                stop=_Stop(self.sweep.max_iterations, self.flags.trial_timeout),
                failure_config=tune.FailureConfig(max_failures=self.flags.max_failures),
                callbacks=callbacks,
                verbose=0,
            ),
        )

    def _judge(self, interrupted: bool) -> None:
        failed, left = self.state.count("failed"), len(self.state.unfinished)
        if failed:
            first = next(trial for trial in self.state.trials.values() if trial.failures)
            raise SweepFailed(f"{failed} trials failed; the first, trial {first.id}:\n{first.failures[0]}")
        if interrupted or left:
            raise SweepFailed(
                f"stopped with {left} trials unfinished: continue with --name {self.sweep.name} --resume auto"
            )
        if not any(trial.results for trial in self.state.trials.values()):
            raise SweepFailed("no trial reported a result")


class _interruptible:
    """Turns SIGTERM, which `ray job stop` sends by default, into SIGINT, which Tune ends a sweep on."""

    def __enter__(self) -> _interruptible:
        self.seen = False
        self._before = signal.signal(signal.SIGTERM, self._on_term)
        return self

    def _on_term(self, *_: Any) -> None:
        self.seen = True
        signal.raise_signal(signal.SIGINT)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)


def code_hash(*functions: Callable[..., Any]) -> str:
    """Hash of the source files that these functions come from, for sweep.json."""
    digest = hashlib.sha256()
    for function in functions:
        path = getattr(inspect.getmodule(function), "__file__", None)
        digest.update(Path(path).read_bytes() if path else b"")
    return digest.hexdigest()[:16]
