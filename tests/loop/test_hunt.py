"""Any space, any values, any end: what the journal says was drawn is what the training function was given.

Hypothesis draws a space of nested domains, a strategy, what the trials report and how they end, and when the driver is
killed. Whatever it draws, the journal, the table and a resumed run agree with what really happened.
"""

import io
import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from ray import tune

from raysweep.errors import BadInput, SweepFailed
from raysweep.history.export import export
from raysweep.history.results import SweepResults
from raysweep.history.sweep_state import ENDED, SweepState
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.simulation import Fault, Step, simulate
from raysweep.spec.configuration import Codec
from raysweep.spec.flags import Flags
from raysweep.spec.initial_points import parse
from raysweep.spec.space import describe
from raysweep.spec.space_checks import check_space
from raysweep.spec.sweep import Sweep
from raysweep.spec.task import Task
from raysweep.trial.exits import Exited
from tests.loop.sweeps import Killed, Mortal, config_of, draw, events_of, table
from tests.loop.test_spaces import Activation, half, same

# Hypothesis draws the same examples in each run, so that a failure is one of the code that changed.
EXAMPLES = settings(
    max_examples=2500,
    derandomize=False,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
STRATEGIES = ["random_search", "asha", "hyperband", "pbt", "tpe", "tpe_asha"]
SAMPLES, ITERATIONS = 5, 4

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.binary(max_size=3)
)
OBJECTS = st.sampled_from([half, len, dict, Activation, Activation(0.5), np.float32(0.5), np.int64(3), np.zeros(2), 1j])
VALUES = st.recursive(
    SCALARS | OBJECTS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner, max_size=2),
    ),
    max_leaves=5,
)
CHOICES = st.lists(VALUES, min_size=1, max_size=4).map(tune.choice)
NUMBERS = st.sampled_from([
    tune.uniform(-1.0, 1.0), tune.loguniform(1e-5, 1e-1), tune.randint(-3, 9), tune.lograndint(1, 100),
    tune.quniform(0.0, 1.0, 0.1), tune.qrandint(0, 12, 4), tune.randn(0.0, 1.0),
])  # fmt: skip
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=4)
NODES = st.recursive(
    CHOICES | NUMBERS | VALUES,
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner, min_size=1, max_size=3),
        st.lists(inner, min_size=1, max_size=2),
        st.lists(inner, min_size=1, max_size=2).map(tuple),
    ),
    max_leaves=4,
)
SPACES = st.dictionaries(KEYS, NODES, min_size=1, max_size=4).map(lambda space: {**space, "x": tune.uniform(-1.0, 1.0)})
METRICS = st.one_of(
    st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf), st.just("text"), st.just(np.float32(0.5)),
    st.just(10**400), st.just(None), st.just(b"x"),
)  # fmt: skip
FAULTS = st.builds(
    Fault, error=st.sampled_from([RuntimeError("no"), MemoryError(), Exited("sys.exit(3)"), None]),
    returns=st.booleans(), times=st.integers(1, 3),
)  # fmt: skip


@dataclass
class Trials:
    """What the trials report, and what they were given."""

    odd: dict[tuple[int, int], Any]  # (trial, iteration) -> another value of the metric
    given: dict[str, list[Any]] = field(default_factory=dict)

    def __call__(self, trial: str, config: dict[str, Any], iteration: int, state: Any) -> Step:
        self.given.setdefault(trial, []).append(config)
        loss = self.odd.get((int(trial), iteration), draw(trial, config["x"], iteration))
        return Step({"loss": loss, "extra": iteration}, 1.0, iteration)


def sweep_of(name: str, space: dict[str, Any]) -> Sweep:
    task = Task("any", lambda config: None, space, "loss", "min", ITERATIONS)
    return Sweep("s", name, task, space, "loss", "min", SAMPLES, ITERATIONS, (), 0, "unused")


def run(sweep: Sweep, trials: Trials, storage: MemoryStorage, faults: Any) -> SweepState:
    return simulate(config_of(sweep), sweep, trials, storage=storage, faults=faults, flags=Flags(max_failures=1))


def told(state: SweepState) -> dict[str, str]:
    """What has become of each trial, as a text: nan is not equal to itself."""
    return {trial: repr(what) for trial, what in table(state).items()}


def check_given(sweep: Sweep, state: SweepState, trials: Trials, *, changes: bool) -> None:
    """Each trial was given what the journal says, as the objects of the space."""
    codec = Codec(sweep.space)
    for name, record in state.trials.items():
        for config in trials.given.get(name, ()):
            written = codec.write(config)
            assert changes or written == record.config
            assert json.loads(json.dumps(written, allow_nan=False)) == written
            assert same(codec.restore(written), config) or _has_no_identity(config)


def _has_no_identity(config: Any) -> bool:
    """Whether a configuration has values that are not the same in two calls of a function, or not comparable."""
    return "nan" in repr(config)


def check_table(sweep: Sweep, state: SweepState) -> None:
    """The files of the sweep are written, and give back the configurations as points."""
    spec = {
        "name": "s", "task": "any", "strategy": sweep.strategy, "metrics": ["loss"], "modes": ["min"],
        "space": describe(sweep.space), "samples": SAMPLES,
    }  # fmt: skip
    results, storage = SweepResults("memory://", spec, state, space=sweep.space), MemoryStorage()
    export(storage, results, sweep.space)
    rows = pd.read_csv(io.BytesIO(storage.get("trials.csv")), dtype=str)
    assert list(rows["trial"]) == list(state.trials)
    best = json.loads(storage.get("best.json"))
    if best is not None:
        assert results.best is not None
        [point] = parse([best], sweep.space)
        codec = Codec(sweep.space)
        assert codec.write_flat(point.config) == codec.write_flat(codec.restore(best["config"]))


@given(
    space=SPACES,
    name=st.sampled_from(STRATEGIES),
    odd=st.dictionaries(st.tuples(st.integers(0, 4), st.integers(1, 4)), METRICS, max_size=3),
    faults=st.dictionaries(
        st.tuples(st.integers(0, 4).map("{:05d}".format), st.integers(1, 5)), FAULTS, max_size=3
    ),
    cut=st.floats(0.05, 0.95),
)  # fmt: skip
@EXAMPLES
@pytest.mark.filterwarnings("ignore")
def test_the_journal_the_table_and_a_resume_have_what_was_drawn(space, name, odd, faults, cut):
    event(name)
    if check_space(space):
        event("refused space")
        return  # refused before anything starts
    sweep = sweep_of(name, space)
    try:
        config_of(sweep)
    except BadInput:
        event("refused strategy")
        return  # so is this
    undisturbed, trials = MemoryStorage(), Trials(odd)
    try:
        state = run(sweep, trials, undisturbed, faults)
    except SweepFailed:
        event("sweep failed")
        return
    events = events_of(undisturbed)
    check_given(sweep, state, trials, changes=name == "pbt")
    check_table(sweep, state)
    assert told(SweepState(events)) == told(state)

    killed = Mortal(lives=[max(1, int(cut * len(events)))])
    with pytest.raises(Killed):
        run(sweep, Trials(odd), killed, faults)
    killed.lives[0] = math.inf
    before = SweepState(events_of(killed))
    again = Trials(odd)
    after = run(sweep, again, killed, faults)
    check_given(sweep, after, again, changes=name == "pbt")
    for trial, record in before.trials.items():
        assert not record.ended or told(before)[trial] == told(after)[trial]
        assert name == "pbt" or record.config == after.trials[trial].config == state.trials[trial].config
    assert all(record.status in ENDED for record in after.trials.values())
    assert len(after.trials) == len(state.trials)
