"""Other libraries' strategies, on the kit's loop: Optuna's TPE with its pruners, and Syne Tune's ASHA, BOHB and CQR.

They are given the same tables, clock and free places as the strategies of jobs/: each is a searcher that asks the
library for configurations, and a scheduler that tells it each result and stops what it stops. Needs the dependency
group `peers`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.sample import Categorical, Float, Integer, LogUniform

from raysweep.optuna_quiet import silent
from raysweep.spec.distributions import number_distribution
from raysweep.spec.space import domains, scale_of
from raysweep.spec.sweep import NoKnobs, Strategy, Sweep
from raysweep.study.simulator import Contender
from raysweep.values import TRAINING_ITERATION, is_number

LIBRARIES = ("Optuna", "Syne Tune")  # the label of each contender begins with its library


class Peer(Protocol):
    """What the loop needs of another library."""

    def ask(self, trial: str) -> dict[str, Any]:
        """The configuration of a new trial."""

    def tell(self, trial: str, iteration: int, value: float) -> bool:
        """Takes an iteration's value; returns whether the trial is stopped."""

    def end(self, trial: str, iteration: int, value: float, stopped: bool) -> None:
        """A trial has ended with this value, since it was stopped or complete."""


class _Asks(Searcher):
    def __init__(self, peer: Peer, stopped: set[str]) -> None:
        super().__init__()
        self._peer, self._stopped = peer, stopped

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Called with the sweep's metric and mode."""
        super().__init__(metric=metric, mode=mode)
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The library's next configuration."""
        return self._peer.ask(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the library how the trial ended."""
        if result is not None:
            self._peer.end(trial_id, result[TRAINING_ITERATION], result[self.metric], trial_id in self._stopped)

    def save(self, checkpoint_path: str) -> None:
        """Nothing is resumed here."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is resumed here."""


class _Tells(FIFOScheduler):
    def __init__(self, peer: Peer, metric: str, stopped: set[str]) -> None:
        super().__init__()
        self._peer, self._value, self._stopped = peer, metric, stopped

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stops what the library stops."""
        value = result[self._value]
        if not is_number(value) or not self._peer.tell(trial.trial_id, result[TRAINING_ITERATION], value):
            return str(TrialScheduler.CONTINUE)
        self._stopped.add(trial.trial_id)
        return str(TrialScheduler.STOP)


class OptunaPeer:
    """A study of Optuna's with one of its pruners."""

    def __init__(self, sweep: Sweep, pruner: optuna.pruners.BasePruner) -> None:
        with silent():
            self._study = optuna.create_study(
                sampler=optuna.samplers.TPESampler(seed=sweep.seed, constant_liar=True),
                pruner=pruner,
                direction="maximize" if sweep.mode == "max" else "minimize",
            )
        self._space = {
            name: optuna.distributions.CategoricalDistribution(domain.categories)
            if isinstance(domain, Categorical)
            else number_distribution(domain)
            for name, domain in domains(sweep.space).items()
        }
        self._trials: dict[str, optuna.Trial] = {}

    def ask(self, trial: str) -> dict[str, Any]:
        """See `Peer`."""
        self._trials[trial] = self._study.ask(self._space)
        return dict(self._trials[trial].params)

    def tell(self, trial: str, iteration: int, value: float) -> bool:
        """See `Peer`."""
        self._trials[trial].report(value, iteration)
        return self._trials[trial].should_prune()

    def end(self, trial: str, iteration: int, value: float, stopped: bool) -> None:
        """See `Peer`."""
        if not is_number(value):
            self._study.tell(self._trials.pop(trial), state=TrialState.FAIL)
        elif stopped:
            self._study.tell(self._trials.pop(trial), state=TrialState.PRUNED)
        else:
            self._study.tell(self._trials.pop(trial), value)


class SynePeer:
    """A scheduler of Syne Tune's. https://arxiv.org/abs/2109.06716"""

    def __init__(self, sweep: Sweep, name: str) -> None:
        from syne_tune.optimizer import baselines

        options: dict[str, Any] = {"config_space": _syne_space(sweep.space), "metric": "value"}
        options |= {"do_minimize": sweep.mode == "min", "random_seed": sweep.seed}
        self._multi_fidelity = name != "CQR"
        if self._multi_fidelity:
            options |= {"time_attr": "epoch", "max_t": sweep.max_iterations}
        self._scheduler: Any = getattr(baselines, name)(**options)
        self._trials: dict[str, Any] = {}

    def ask(self, trial: str) -> dict[str, Any]:
        """See `Peer`."""
        from syne_tune.backend.trial_status import Trial

        config = dict(self._scheduler.suggest().config)
        self._trials[trial] = Trial(len(self._trials), config, datetime.datetime.now())
        self._scheduler.on_trial_add(self._trials[trial])
        return config

    def tell(self, trial: str, iteration: int, value: float) -> bool:
        """See `Peer`."""
        said = self._scheduler.on_trial_result(self._trials[trial], {"value": value, "epoch": iteration})
        return bool(said == "STOP")

    def end(self, trial: str, iteration: int, value: float, stopped: bool) -> None:
        """See `Peer`."""
        if not is_number(value):
            self._scheduler.on_trial_error(self._trials[trial])
        elif stopped:
            self._scheduler.on_trial_remove(self._trials[trial])
        else:
            self._scheduler.on_trial_complete(self._trials[trial], {"value": value, "epoch": iteration})


def _syne_space(space: dict[str, Any]) -> dict[str, Any]:
    from syne_tune import config_space as syne

    found: dict[str, Any] = {}
    for name, domain in domains(space).items():
        log = isinstance(scale_of(domain), LogUniform)
        if isinstance(domain, Categorical):
            found[name] = syne.choice(list(domain.categories))
        elif isinstance(domain, Integer):  # Syne Tune's upper bound is one of the values
            found[name] = (syne.lograndint if log else syne.randint)(domain.lower, domain.upper - 1)
        else:
            assert isinstance(domain, Float)
            found[name] = (syne.loguniform if log else syne.uniform)(domain.lower, domain.upper)
    return found


def _contender(label: str, make: Callable[[Sweep], Peer]) -> Contender:
    def tune_config(sweep: Sweep, knobs: NoKnobs) -> tune.TuneConfig:
        peer, stopped = make(sweep), set[str]()
        return tune.TuneConfig(search_alg=_Asks(peer, stopped), scheduler=_Tells(peer, sweep.metric, stopped))

    return Contender(label, Strategy(label, tune_config, NoKnobs, label), NoKnobs())


def versions() -> str:
    """Of the libraries, as far as they are installed."""
    found = []
    for library in LIBRARIES:
        try:
            found.append(f"{library} {version(library.lower().replace(' ', '-'))}")
        except PackageNotFoundError:
            found.append(library)
    return " and ".join(found)


def contenders() -> list[Contender]:
    """All of them, with their libraries' defaults."""
    pruners: dict[str, Callable[[int], optuna.pruners.BasePruner]] = {
        "no pruner": lambda _: optuna.pruners.NopPruner(),
        "median pruner": lambda _: optuna.pruners.MedianPruner(),
        "halving pruner": lambda _: optuna.pruners.SuccessiveHalvingPruner(),
        "HyperBand pruner": lambda most: optuna.pruners.HyperbandPruner(max_resource=most),
    }
    optunas = [
        _contender(f"Optuna TPE, {name}", lambda sweep, make=make: OptunaPeer(sweep, make(sweep.max_iterations)))
        for name, make in pruners.items()
    ]
    synes = [
        _contender(f"Syne Tune {name}", lambda sweep, name=name: SynePeer(sweep, name))
        for name in ("ASHA", "BOHB", "CQR")
    ]
    return [*optunas, *synes]
