"""Runs a sweep that preflight has passed: Tuner -> journal -> results. All strategies share this path."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import logging
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining
from ray.tune.search import Searcher

from raysweep import capacity, preflight, results, space
from raysweep.ending import Interruption, Reaper, Stop
from raysweep.errors import SweepFailed
from raysweep.flags import Flags
from raysweep.journal import Journal
from raysweep.lease import Lease
from raysweep.progress import Progress
from raysweep.record import Recorder
from raysweep.results import SweepResults
from raysweep.schedule import Schedule
from raysweep.source import TrialSource
from raysweep.state import ENDED, SweepState
from raysweep.storage import Storage
from raysweep.supervisor import Heart
from raysweep.sweep import Strategy, Sweep
from raysweep.tensorboard import TensorBoard
from raysweep.trial import TrialSpec, trainable
from raysweep.variants import Variants

HARD_TIMEOUT_GRACE_S = 5.0
TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal and TensorBoard are ours
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Ray's own snapshot is never read: do not spend time on it
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # a line each; the first traceback comes at the end, all are in the journal
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: no tables
}
# Tune passes the driver's keys to its actors in a runtime environment, which Ray writes into a log that all may read.
# Every node has credentials of its own.
class_cache.ENV_VARS_TO_PROPAGATE = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if not name.startswith("AWS_")}


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
        lease: Lease,
        state: SweepState | None,
        data: ray.ObjectRef | None,
    ) -> None:
        self.sweep, self.flags, self.knobs, self.config, self.place = sweep, flags, knobs, config, place
        self.strategy, self.lease, self.data, self.resumed = strategy, lease, data, state is not None
        self.state = state or SweepState()
        self.scheduler = config.scheduler or FIFOScheduler()
        self.schedule = Schedule(self.scheduler, sweep.seed)
        self.searcher: Searcher = config.search_alg
        self.stop = Stop(
            sweep.max_iterations,
            self.metrics if flags.nan == "stop" else (),
            flags.trial_timeout,
            flags.time_budget,
            self.total,
        )

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is optimised."""
        metric = getattr(self.searcher, "metric", None)
        return tuple(metric) if isinstance(metric, list) else (self.sweep.metric,)

    @property
    def total(self) -> int:
        """Trials of the whole sweep."""
        if isinstance(self.searcher, Variants):
            return self.searcher.total(self.sweep.samples)
        return self.sweep.samples

    @property
    def _exploited(self) -> int:
        """Results back for which a trial's checkpoints may be given to another one."""
        population = isinstance(self.scheduler, PopulationBasedTraining)
        return int(self.scheduler._perturbation_interval) if population else 0

    @property
    def left(self) -> int:
        """Trials that have not ended, or were never begun."""
        return max(self.total, len(self.state.trials)) - self.state.count(*ENDED)

    def run(self) -> SweepResults:
        spec = self._write_spec()
        log = Journal(self.place, self.lease.term, self.state.seq)
        recorder = Recorder(self.place, log, self.state, *self._objective(), self._exploited, self.lease)
        self._greet()
        recorder.begin(self.resumed)
        board = TensorBoard(self.place, self.sweep.metric, self.state)
        begun = self.left
        try:
            self._fit(recorder, board)
        finally:
            if self._exploited and begun and not self.left:
                recorder.expire_all()
            recorder.end("interrupted" if self.left else "ended")
            board.close()
            recorder.close()
            log.close()
            found = SweepResults(self.place.url, spec, self.state)
            if self.lease.holds():
                results.export(self.place, found)
        click.echo(results.summary(found))
        self._judge()
        return found

    def _objective(self) -> tuple[str, str]:
        return self.sweep.metric, self.sweep.mode

    def _write_spec(self) -> dict[str, Any]:
        mode = getattr(self.searcher, "mode", None)
        spec = {
            "name": self.sweep.name,
            "task": self.sweep.task.name,
            "strategy": self.sweep.strategy,
            "metrics": list(self.metrics),
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

    def _greet(self) -> None:
        ended, total = self.state.count(*ENDED), self.total
        kept = f", {ended} of them done before" if self.resumed else ""
        click.echo(f"sweep {self.sweep.name}: {self.sweep.strategy} on {self.sweep.task.name}, {total} trials{kept}")
        click.echo(f"storage {self.place.url}")

    def _fit(self, recorder: Recorder, board: TensorBoard) -> None:
        shared = TrialSpec(
            train=self.sweep.task.train,
            data=self.data,
            storage=self.place,
            max_iterations=self.sweep.max_iterations,
            finite=self.metrics if self.flags.nan == "fail" else (),
            timeout=self.flags.trial_timeout + HARD_TIMEOUT_GRACE_S if self.flags.trial_timeout else None,
        )
        progress = Progress(self.state, *self._objective(), self.total, self.sweep.max_iterations)
        concurrency = self._concurrency()
        settings = TUNE_SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(int(min(concurrency, self.total)))}
        source = TrialSource(
            self.searcher,
            recorder,
            concurrency,
            self.schedule,
            self.sweep.max_iterations,
            ends=self.stop,
            timeout=self.flags.trial_timeout,
            most={kind: capacity.largest_node(kind) for kind in ("CPU", "GPU")},
        )
        # They look for the result files of Ray's loggers, which are off, and say again which trials failed.
        logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
        logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
        with (
            tempfile.TemporaryDirectory(prefix="raysweep-") as scratch,
            _environment(settings),
            Interruption() as interruption,
        ):
            callbacks = [recorder, board, progress, self.stop, interruption, Reaper(self.flags.report_timeout), Heart()]
            self._tuner(shared, source, callbacks, scratch).fit()

    def _concurrency(self) -> float:
        if isinstance(self.scheduler, preflight.SYNCHRONOUS):
            return math.inf
        if self.flags.concurrency is not None:
            return self.flags.concurrency
        return max(1, capacity.places(self.flags.cpus_per_trial, self.flags.gpus_per_trial))

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
                scheduler=self.schedule,
                num_samples=self.total,
                reuse_actors=self.sweep.task.reuse_actors,
            ),
            run_config=tune.RunConfig(
                name=self.sweep.name,
                storage_path=scratch,
                stop=self.stop,
                failure_config=tune.FailureConfig(max_failures=self.flags.max_failures),
                callbacks=callbacks,
                verbose=0,
            ),
        )

    def _judge(self) -> None:
        """Whether the exit code may be 0.

        Raises:
            SweepFailed: it may not, and why.
        """
        go_on = f"continue with --name {self.sweep.name} --resume auto"
        if self.stop.refused:
            done = self.state.count(*ENDED)
            raise SweepFailed(
                f"{self.stop.refused}\nthe sweep was ended, since its trials cannot save: what {done} trials have done,"
                f" and the last checkpoints of the others, are safe: mend the storage, then {go_on}"
            )
        failed = [trial for trial in self.state.trials.values() if trial.status == "failed"]
        if failed:
            early = self.stop.hopeless and self.left
            same = f"; all of them the same way, so {self.left} were not begun" if early else ""
            raise SweepFailed(
                f"{len(failed)} trials failed{same}; the first, trial {failed[0].id}:\n{failed[0].failures[0]}"
            )
        reported = any(trial.results for trial in self.state.trials.values())
        if self.left:
            out_of_time = self.stop.out_of_time
            why = f"the time budget of {self.flags.time_budget:g} s is used up" if out_of_time else "stopped"
            told = f"{why} with {self.left} trials to do: {go_on}"
            if not (out_of_time and reported):
                raise SweepFailed(told)
            click.echo(told)
        elif not reported:
            raise SweepFailed("no trial reported a result")


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Ray reads settings from the environment; a notebook's own use of Tune must not find ours there."""
    before = dict(os.environ)
    os.environ |= settings
    try:
        yield
    finally:
        for name in settings:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


def code_hash(*functions: Callable[..., Any]) -> str:
    """Hash of the source files that these functions come from, for sweep.json."""
    digest = hashlib.sha256()
    for function in functions:
        path = getattr(inspect.getmodule(function), "__file__", None)
        digest.update(Path(path).read_bytes() if path else b"")
    return digest.hexdigest()[:16]
