"""`--retry`: a resume tries failed trials again, from their last checkpoints, under every strategy."""

from dataclasses import replace

import pytest

from raysweep.loop.failures import NEVER_COUNTED, Kind
from raysweep.loop.memory_storage import MemoryStorage
from raysweep.loop.simulation import Fault
from raysweep.spec.flags import KINDS
from raysweep.spec.sweep import strategies
from tests.loop.sweeps import Killed, Mortal, bowl, events_of, run, table

pytestmark = pytest.mark.filterwarnings("ignore")  # of the Gaussian process of PB2
ALWAYS = 99
FAULTS = {
    ("00000", 2): Fault(RuntimeError("no such layer"), times=ALWAYS),
    ("00002", 1): Fault(MemoryError(), times=ALWAYS),
}


def outcome(trial, config, iteration, state):
    """The first trial is the best one, so that no scheduler stops it before it fails."""
    step = bowl(trial, config, iteration, state)
    return replace(step, metrics={"loss": step.metrics["loss"] - 10 * (trial == "00000")})


def failed_before(name):
    storage = MemoryStorage()
    state = run(name, outcome, faults=FAULTS, storage=storage, max_failures=0)
    assert state.trials["00000"].status == "failed"
    return storage


def test_each_way_to_fail_for_good_can_be_named():
    assert set(KINDS) == {*Kind} - NEVER_COUNTED


def test_without_it_a_failed_trial_stays_failed():
    storage = failed_before("random_search")
    before = events_of(storage)
    state = run("random_search", outcome, storage=storage)
    assert state.count("failed", "infeasible") == 2
    assert [event["type"] for event in events_of(storage)[len(before) :]] == ["start", "end"]


@pytest.mark.parametrize("name", strategies())
def test_failed_trials_go_on_from_their_checkpoints(name):
    storage = failed_before(name)
    ran = []

    def noticed(trial, config, iteration, state):
        ran.append((trial, iteration, state is not None))
        return outcome(trial, config, iteration, state)

    state = run(name, noticed, storage=storage, retry="failed")
    assert state.count("failed", "infeasible") == 0
    assert {trial for trial, _, _ in ran} == {"00000", "00002"}
    assert ran[[trial for trial, _, _ in ran].index("00000")] == ("00000", 2, True)
    assert [event["trial"] for event in events_of(storage) if event["type"] == "retry"] == ["00000", "00002"]


@pytest.mark.parametrize(("kind", "tried"), [("exception", ["00000"]), ("memory", ["00002"]), ("nan", [])])
def test_those_that_failed_in_one_way(kind, tried):
    storage = failed_before("random_search")
    state = run("random_search", outcome, storage=storage, retry=kind)
    assert [event["trial"] for event in events_of(storage) if event["type"] == "retry"] == tried
    assert state.count("failed", "infeasible") == 2 - len(tried)


def test_earlier_failures_do_not_count_and_are_kept():
    storage = failed_before("random_search")
    once = {("00000", 3): Fault(RuntimeError("once"))}
    state = run("random_search", outcome, faults=once, storage=storage, retry="failed", max_failures=1)
    record = state.trials["00000"]
    assert (record.status, record.retried, len(record.failures)) == ("finished", 1, 2)


def test_it_may_fail_again():
    storage = failed_before("random_search")
    state = run("random_search", outcome, faults=FAULTS, storage=storage, retry="failed")
    assert (state.trials["00000"].status, state.trials["00000"].kinds) == ("failed", ["exception", "exception"])


@pytest.mark.parametrize("name", strategies())
def test_a_driver_that_is_killed_in_a_retry_decides_as_an_undisturbed_one(name):
    undisturbed = failed_before(name)
    before = len(events_of(undisturbed))
    expected = run(name, outcome, storage=undisturbed, retry="failed")
    retried = len(events_of(undisturbed)) - before
    for cut in (before + 3, before + retried // 2, before + retried - 2):
        storage = Mortal(lives=[cut - before])
        storage.tree.update(failed_before(name).tree)
        with pytest.raises(Killed):
            run(name, outcome, storage=storage, retry="failed")
        storage.lives[0] = float("inf")
        assert table(run(name, outcome, storage=storage)) == table(expected)
