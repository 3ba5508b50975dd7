import numpy as np
import pytest

from tasks import boosting
from tests.tasks.session import overlap, read_only

CONFIG = {"learning_rate": 0.2, "max_depth": 2, "subsample": 0.5, "max_features": 0.5}


@pytest.fixture(scope="module")
def data():
    return read_only(boosting.load_data(None))


def test_learns(session, data):
    reports = session.run(boosting, CONFIG, data)

    assert len(reports) == boosting.MAX_ITERATIONS
    assert min(report["val_loss"] for report in reports) < 0.15
    assert reports[-1]["test_accuracy"] >= 0.92


def test_an_iteration_adds_trees(session, data):
    session.run(boosting, CONFIG, data, iterations=3)

    assert len(session.state.estimators_) == 3 * boosting.TREES


def test_same_config_same_metrics(session, data):
    first = session.fresh(boosting, CONFIG, data, iterations=3)

    assert first == session.fresh(boosting, CONFIG, data, iterations=3)
    assert first != session.fresh(boosting, {**CONFIG, "seed": 1}, data, iterations=3)


@pytest.mark.parametrize("stop_at", [1, 4])
def test_resumed_trial_equals_uninterrupted(session, data, stop_at):
    whole = session.fresh(boosting, CONFIG, data, iterations=6)

    session.fresh(boosting, CONFIG, data, iterations=6, stop_at=stop_at)

    assert session.run(boosting, CONFIG, data, iterations=6) == whole


def test_changed_depth_shapes_only_the_trees_to_come(session, data):
    session.fresh(boosting, CONFIG, data, iterations=2, stop_at=1)
    session.run(boosting, {**CONFIG, "max_depth": 1}, data, iterations=2)

    depths = [tree.get_depth() for tree in session.state.estimators_.ravel()]
    assert depths == [2] * boosting.TREES + [1] * boosting.TREES


def test_predict_gives_the_accuracy_that_was_reported(session, data):
    reports = session.run(boosting, CONFIG, data, iterations=2)
    probabilities = boosting.predict(CONFIG, session.state, data.val.inputs)

    assert probabilities.shape == (114, 2)
    assert np.mean(probabilities.argmax(1) == data.val.labels) == reports[-1]["val_accuracy"]


def test_parts_are_fixed_and_disjoint(data):
    again = boosting.load_data(None)

    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [341, 114, 114]
    assert np.array_equal(again.val.inputs, data.val.inputs)
    assert overlap(data.train, data.val) == overlap(data.train, data.test) == overlap(data.val, data.test) == 0
