"""Runs a sweep that has passed preflight: loop -> journal -> results. All strategies share this code."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import joblib
import ray
from ray import tune

from raysweep import env
from raysweep.driver import capacity, local_ray
from raysweep.driver.live_report import LiveReport
from raysweep.driver.live_status import LiveStatus
from raysweep.driver.supervisor import Heart
from raysweep.errors import StorageError, SweepFailed
from raysweep.history import live, results, trial_log
from raysweep.history.cost import Rate
from raysweep.history.export import export
from raysweep.history.journal import Journal
from raysweep.history.lease import Lease
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import ENDED, SweepState
from raysweep.loop import ray_metrics
from raysweep.loop.assemble import SYNCHRONOUS, Assembly
from raysweep.loop.loop import Plan
from raysweep.loop.observers import Observers
from raysweep.loop.progress import Progress, printed
from raysweep.loop.ray_executor import RayExecutor
from raysweep.loop.ray_metrics import RayMetrics
from raysweep.loop.recorder import Recorder
from raysweep.loop.show_output import ShowOutput
from raysweep.loop.stopping import SweepLimits
from raysweep.loop.tensorboard import TensorBoard
from raysweep.reporting.ledger import Ledger
from raysweep.reporting.write import write_if_possible
from raysweep.spec import space
from raysweep.spec.flags import Flags
from raysweep.spec.function import plain
from raysweep.spec.initial_points import described
from raysweep.spec.prices import read as read_prices
from raysweep.spec.reports import reports
from raysweep.spec.sweep import Strategy, Sweep
from raysweep.storage import Storage, dataset
from raysweep.trial.run import TrialSpec


class Runner:
    """One run of a new or resumed sweep, to its results."""

    def __init__(
        self, strategy: Strategy, sweep: Sweep, flags: Flags, knobs: Any, config: tune.TuneConfig, place: Storage
    ) -> None:
        self.sweep, self.flags, self.knobs, self.place = sweep, flags, knobs, place
        self.strategy, self.assembly = strategy, Assembly(config, sweep, flags)

    def plan(self, rate: Rate | None, state: SweepState) -> Plan:
        """The plan for the loop; needs a connected cluster.

        Args:
            rate: what the sweep costs by the hour.
            state: of its earlier runs, with their events.
        """
        workers = self.sweep.workers
        largest = {"cpus": capacity.largest_share("CPU", workers), "gpus": capacity.largest_share("GPU", workers)}
        spent = 0.0
        if rate and self.flags.cost_budget:
            ledger = Ledger.of(state.events or [])
            spent = rate.cost(ledger.wall, ledger.work)
        return self.assembly.plan(self.places, largest, rate, spent)

    @property
    def rate(self) -> Rate | None:
        """What the sweep costs by the hour, if the project has a table of prices; needs a connected cluster."""
        prices, share = read_prices(Path.cwd()), self.assembly.share
        if prices is None:
            return None
        rooms = capacity.rooms(share.cpus, share.gpus)
        cpus, gpus = share.cpus * share.workers, share.gpus * share.workers
        return Rate(prices, max(len(rooms), 1), self.places, cpus, gpus)

    @property
    def places(self) -> int:
        """Trials for which the cluster has room at its largest size."""
        return max(1, capacity.max_trials(self.sweep.cpus, self.sweep.gpus, self.sweep.workers))

    def executor(self) -> RayExecutor:
        """The executor of the trials. It requests workers at once, so that they start while the data are loaded."""
        flags, task = self.flags, self.sweep.task
        spec = TrialSpec(
            train=task.train,
            storage=self.place,
            max_iterations=self.sweep.max_iterations,
            numeric=self.assembly.metrics,
            finite=self.assembly.must_be_finite,
            timeout=self.assembly.hard_timeout,
            own_folder=reports(task.train).of_ray and os.environ.get(env.RAY_CHDIR_TO_TRIAL_DIR) != "0",
        )
        log_name = task.name.rpartition(".")[2]
        show = ShowOutput() if flags.show_output else None
        executor = RayExecutor(
            spec, self.sweep.name, self.assembly.share, log_name, task.reuse_actors, flags.cleanup_timeout, show
        )
        executor.request_places(min(self.assembly.concurrency(self.places), self.assembly.total))
        return executor

    @contextlib.contextmanager
    def opened(self) -> Iterator[RayExecutor]:
        """The executor, with the task's data in Ray's object store; starts Ray if necessary.

        The data are loaded before the sweep is created: if that fails, the sweep's name stays free.
        """
        if not ray.is_initialized():
            local_ray.start()
        executor, task = self.executor(), self.sweep.task
        try:
            if task.load_data is not None and task.takes_data:
                with dataset.folder(self.flags.data) as folder:
                    executor.set_data(ray.put(task.load_data(folder)))
            yield executor
        finally:
            executor.close()

    def run(self, executor: RayExecutor, lease: Lease, state: SweepState | None) -> SweepResults:
        """Runs the sweep to its end, and writes its results.

        Args:
            executor: runs the trials.
            lease: of the sweep, held by this driver.
            state: of a sweep to resume; None for a new one.

        Raises:
            SweepFailed: more trials failed than allowed, none reported, or the sweep was stopped early.
        """
        resumed, state = state is not None, state or SweepState()
        with contextlib.nullcontext() if resumed else self._name_stays_free(lease, state):
            spec, rate = self._write_spec(), self.rate
            plan = self.plan(rate, state)
            journal = Journal(self.place, lease.term, state.seq)
            recorder = Recorder(self.place, journal, state, self.sweep.metric, self.sweep.mode, lease)
            self._print_start(state, resumed)
            try:
                settings = self._settings(spec, rate) | self._warm_start(state)
                recorder.begin(resumed, self.assembly.trial_limits, settings)
                observers = self._observers(state, executor, lease)
                limits = self.assembly.run(plan, executor, recorder, observers)
            finally:
                journal.close()
                sweep_results = SweepResults(self.place.url, spec, state, space=self.sweep.space)
                if lease.holds():
                    export(self.place, sweep_results, self.sweep.space)
                    write_if_possible(self.place)
                    self._join_logs()
        click.echo(results.summary(sweep_results))
        self._raise_if_failed(limits, state)
        return sweep_results

    @contextlib.contextmanager
    def _name_stays_free(self, lease: Lease, state: SweepState) -> Iterator[None]:
        """If a new sweep fails before its first trial, nothing of it is kept, so that its name can be used again."""
        try:
            yield
        except BaseException:
            if not state.trials:
                with contextlib.suppress(StorageError):
                    self._remove_all(lease)
            raise

    def _remove_all(self, lease: Lease) -> None:
        if lease.holds():
            self.place.delete_tree("journal")
            for name in ("sweep.json", *results.FILES, results.REPORT, live.NAME):
                self.place.delete(name)

    def _join_logs(self) -> None:
        try:
            trial_log.join(self.place)
        except StorageError as error:  # `raysweep logs` reads them as they are
            click.echo(f"warning: what trials printed in several runs stays in several files: {error}", err=True)

    def _observers(self, state: SweepState, executor: RayExecutor, lease: Lease) -> Observers:
        metric, mode = self.sweep.metric, self.sweep.mode
        progress = Progress(state, metric, mode, self.assembly.total, self.sweep.max_iterations, self.sweep.name)
        # Heart is closed first: the supervisor then waits while the others close, which a slow store may delay.
        status = LiveStatus(self.place, lease.term, progress, lambda: executor.occupancy)
        seen = [progress, TensorBoard(self.place, metric, state), LiveReport(self.place), status]
        if ray_metrics.is_on():
            tags = {"sweep": self.sweep.name, "strategy": self.sweep.strategy, "task": self.sweep.task.name}
            total, objective = self.assembly.total, self.assembly.objective
            seen.append(RayMetrics(state, objective, total, tags, lambda: executor.stages))
        return Observers([Heart(), *seen])

    def _write_spec(self) -> dict[str, Any]:
        spec = {
            "name": self.sweep.name,
            "task": self.sweep.task.name,
            "strategy": self.sweep.strategy,
            "metrics": list(self.assembly.objective.metrics),
            "modes": list(self.assembly.objective.modes),
            "seed": self.sweep.seed,
            "flags": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self.flags).items()},
            "knobs": dataclasses.asdict(self.knobs),
            "samples": self.sweep.samples,
            "max_iterations": self.sweep.max_iterations,
            "space": space.describe(self.sweep.space),
            "points": described(self.sweep.points, self.sweep.space),
            "code": code_hash(self.sweep.task.train, self.strategy.tune_config),
            "versions": {name: version(name) for name in ("ray", "optuna", "numpy")},
            "python": sys.version.split()[0],
            "hardware": f"{platform.machine()}, {joblib.cpu_count()} CPUs",  # of the driver's machine
        }
        self.place.put("sweep.json", (json.dumps(spec, indent=2) + "\n").encode())
        return spec

    def _settings(self, spec: dict[str, Any], rate: Rate | None = None) -> dict[str, Any]:
        """What may differ from driver to driver, for the journal: sweep.json has only that of the last one."""
        return {
            "share": dataclasses.asdict(self.assembly.share),
            "together": isinstance(self.assembly.scheduler, SYNCHRONOUS),
            **{key: spec[key] for key in ("code", "versions", "python")},
            **({"prices": rate.note()} if rate else {}),
        }

    def _warm_start(self, state: SweepState) -> dict[str, Any]:
        """What came in from earlier sweeps, for the journal; once: a resumed sweep has it from there."""
        new = self.sweep.earlier if state.warm_start is None else ()
        return {"warm_start": [each.to_dict() for each in new]} if new else {}

    def _print_start(self, state: SweepState, resumed: bool) -> None:
        ended, total = state.count(*ENDED), self.assembly.total
        progress = f", {ended} of them already done" if resumed else ""
        click.echo(
            f"sweep {self.sweep.name}: {self.sweep.strategy} on {self.sweep.task.name}, {total} trials{progress}"
        )
        click.echo(f"storage {self.place.url}")
        failed = [trial for trial in state.trials.values() if trial.failed]
        if failed and self.flags.retry is None:
            kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(t.kinds[-1] for t in failed).items())
            click.echo(f"{len(failed)} trials failed before ({kinds}), and are not tried again: --retry failed does so")

    def _raise_if_failed(self, limits: SweepLimits, state: SweepState) -> None:
        """Checks whether the sweep succeeded.

        Raises:
            SweepFailed: it did not, with the reason.
        """
        fix = f"continue with --name {self.sweep.name} --resume auto"
        remaining = self.assembly.left(state)
        if limits.refused:
            raise SweepFailed(
                f"{limits.refused}\nthe sweep was ended, since its trials cannot save: the results of"
                f" {state.count(*ENDED)} trials and the last checkpoints of the others are safe: repair the storage,"
                f" then {fix}"
            )
        failed = [trial for trial in state.trials.values() if trial.status == "failed"]
        if failed:
            rest = f"; all in the same way, so {remaining} were not started" if limits.hopeless and remaining else ""
            first = failed[0]
            raise SweepFailed(
                f"{len(failed)} trials failed{rest}; the first, trial {first.id}:\n{first.failures[first.retried]}"
                + printed(first, first.retried, self.sweep.name)
            )
        reported = any(trial.results for trial in state.trials.values())
        if remaining and limits.out_of_time:
            reason = f"the time budget of {limits.budget:g} s is used up"
            reason += "" if reported else " before the first report"
            click.echo(
                f"{reason} with {remaining} trials to do: {fix}{'' if reported else ' and a longer --time-budget'}"
            )
        elif remaining and limits.out_of_money and limits.spending:
            spending = limits.spending
            click.echo(
                f"the cost budget of {spending.budget:g} {spending.rate.prices.currency} is used up with {remaining}"
                f" trials to do: {fix} and a larger --cost-budget"
            )
        elif remaining:
            raise SweepFailed(f"stopped with {remaining} trials to do: {fix}")
        elif not reported:
            raise SweepFailed("no trial reported a result")


def code_hash(*functions: Callable[..., Any]) -> str:
    """Hash of the source files that these functions come from, for sweep.json."""
    digest = hashlib.sha256()
    for function in functions:
        path = getattr(inspect.getmodule(plain(function)), "__file__", None)
        digest.update(Path(path).read_bytes() if path else b"")
    return digest.hexdigest()[:16]
