"""How a sweep's parts are put together, in the same way on a cluster and in a simulation.

A strategy provides a searcher and a scheduler. With a sweep and its flags they make a loop, which runs on an executor.
"""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, HyperBandScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher

from raysweep.history.cost import Rate
from raysweep.history.results import Objective
from raysweep.history.sweep_state import ENDED, SweepState
from raysweep.loop.controller import Controller
from raysweep.loop.executor import Executor, Share
from raysweep.loop.loop import Loop, Plan
from raysweep.loop.observers import Observer
from raysweep.loop.random_grid_search import Variants
from raysweep.loop.recorder import Recorder
from raysweep.loop.scheduler import Scheduler
from raysweep.loop.searcher import Learning
from raysweep.loop.stopping import Spending, SweepLimits, TrialLimits
from raysweep.spec.flags import Flags
from raysweep.spec.sweep import Sweep

# They pause trials and continue them from checkpoints, and compare all trials with each other.
SYNCHRONOUS = (PopulationBasedTraining, HyperBandScheduler)
HARD_TIMEOUT_GRACE_S = 5.0  # after a trial's timeout, for a last report before its process is killed


class Assembly:
    """A strategy's searcher and scheduler, set up with the sweep's metric and mode, and the loop around them.

    Args:
        config: from the strategy; the defaults are random search and the FIFO scheduler.
        sweep: the sweep's settings.
        flags: the limits of trials and sweep.
    """

    def __init__(self, config: tune.TuneConfig, sweep: Sweep, flags: Flags) -> None:
        self._config, self._sweep, self._flags = config, sweep, flags
        self.scheduler: TrialScheduler = config.scheduler or FIFOScheduler()
        self.searcher = _searcher(config, sweep)
        single = not isinstance(self.searcher.metric, list)
        objective = (sweep.metric, sweep.mode) if single else (None, None)
        self.searcher.set_search_properties(*objective, sweep.space)
        self.scheduler.set_search_properties(*objective)
        # What waits for others begins with the best of them instead, as points: it needs just so many trials.
        if sweep.earlier and isinstance(self.searcher, Learning) and not isinstance(self.scheduler, SYNCHRONOUS):
            self.searcher.learn(sweep.earlier)

    @property
    def objective(self) -> Objective:
        """The metrics that are optimised, with their modes."""
        return objective_of(self.searcher, self._sweep)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are optimised."""
        return self.objective.metrics

    @property
    def total(self) -> int:
        """Trials of the whole sweep."""
        if isinstance(self.searcher, Variants):
            return self.searcher.total(self._sweep.samples)
        return self._sweep.samples

    @property
    def share(self) -> Share:
        """The resources of one trial."""
        return Share(self._sweep.cpus, self._sweep.gpus, self._sweep.workers)

    @property
    def trial_limits(self) -> TrialLimits:
        """What ends a trial, whatever the scheduler says."""
        finite = self.metrics if self._flags.nan == "stop" else ()
        return TrialLimits(self._sweep.max_iterations, finite, self._flags.trial_timeout)

    @property
    def must_be_finite(self) -> tuple[str, ...]:
        """Metrics that must be finite numbers; a trial that reports another value fails."""
        return self.metrics if self._flags.nan == "fail" else ()

    @property
    def hard_timeout(self) -> float | None:
        """Seconds after which a trial's process is killed."""
        return self._flags.trial_timeout + HARD_TIMEOUT_GRACE_S if self._flags.trial_timeout else None

    def left(self, state: SweepState) -> int:
        """The number of trials that have not ended, or not been started."""
        return max(self.total, len(state.trials)) - state.count(*ENDED)

    def concurrency(self, places: int) -> int:
        """The largest number of trials at the same time, given this number of places."""
        return self._flags.concurrency or self._config.max_concurrent_trials or places

    def plan(self, places: int, largest: dict[str, float], rate: Rate | None = None, spent: float = 0.0) -> Plan:
        """The plan for the loop.

        Args:
            places: trials that can run at the same time.
            largest: CPUs and GPUs that a worker of a trial may have at most.
            rate: what the sweep costs by the hour, if that is known.
            spent: what its earlier runs have cost.
        """
        flags = self._flags
        return Plan(
            total=self.total,
            max_iterations=self._sweep.max_iterations,
            metrics=self.metrics,
            concurrency=self.concurrency(places),
            space=self._sweep.space,
            together=isinstance(self.scheduler, SYNCHRONOUS),
            share=self.share,
            largest=largest,
            max_failures=flags.max_failures,
            timeout=flags.trial_timeout,
            report_timeout=flags.report_timeout,
            time_budget=flags.time_budget or self._config.time_budget_s,
            spending=Spending(rate, flags.cost_budget, spent) if rate and flags.cost_budget else None,
            retry=flags.retry,
        )

    def _loop(self, plan: Plan, executor: Executor, recorder: Recorder, observer: Observer) -> Loop:
        scheduler = Scheduler(self.scheduler, self._sweep.seed, self._sweep.mode)
        controller = Controller(scheduler, self.trial_limits, self._sweep.max_iterations, self.searcher)
        return Loop(plan, self.searcher, controller, executor, recorder, observer)

    def run(self, plan: Plan, executor: Executor, recorder: Recorder, observer: Observer) -> SweepLimits:
        """Runs the loop to its end, then closes executor, recorder and observer.

        Returns:
            Which of the sweep's limits were reached.

        Raises:
            SweepFailed: no trial is running, and none can ever start.
        """
        observer.begin()
        state = recorder.state
        loop, left_at_start = self._loop(plan, executor, recorder, observer), self.left(state)
        try:
            loop.run()
        finally:
            executor.close()
            if isinstance(self.scheduler, PopulationBasedTraining) and left_at_start and not self.left(state):
                recorder.expire_all()
            out_of_budget = loop.limits.out_of_budget and loop.limits.refused is None
            if self.left(state):
                recorder.end("interrupted", out_of_budget)
            else:
                recorder.end("ended")
            observer.close()
            recorder.close()
        return loop.limits


def objective_of(searcher: Any, sweep: Sweep) -> Objective:
    """What is optimised: the sweep's own metric, or those of a searcher that has several."""
    metric = getattr(searcher, "metric", None)
    if isinstance(metric, list):
        return Objective(tuple(metric), tuple(searcher.mode))
    return Objective((sweep.metric,), (sweep.mode,))


def _searcher(config: tune.TuneConfig, sweep: Sweep) -> Searcher:
    return config.search_alg or Variants(sweep.space, sweep.points, sweep.seed)
