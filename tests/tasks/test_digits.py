import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tasks import digits
from tests.tasks.session import overlap, read_only

GOOD = {"lr": 0.1, "momentum": 0.8, "batch_size": 32, "width": 64}


@pytest.fixture(scope="module")
def data():
    return read_only(digits.load_data(None))


def test_good_config_reaches_096(session, data):
    reports = session.run(digits, GOOD, data)

    assert len(reports) == digits.MAX_ITERATIONS
    assert max(report["val_accuracy"] for report in reports) >= 0.96
    assert reports[-1]["test_accuracy"] >= 0.94


def test_same_config_same_metrics(session, data):
    assert session.fresh(digits, GOOD, data, iterations=3) == session.fresh(digits, GOOD, data, iterations=3)


def test_seed_changes_the_trial(session, data):
    other = session.fresh(digits, {**GOOD, "seed": 1}, data, iterations=2)

    assert other != session.fresh(digits, GOOD, data, iterations=2)


@pytest.mark.parametrize("stop_at", [1, 3])
def test_resumed_trial_equals_uninterrupted(session, data, stop_at):
    whole = session.fresh(digits, GOOD, data, iterations=5)
    weights = session.state["model"]

    session.fresh(digits, GOOD, data, iterations=5, stop_at=stop_at)

    assert session.run(digits, GOOD, data, iterations=5) == whole
    assert all(torch.equal(weights[name], value) for name, value in session.state["model"].items())


@pytest.mark.parametrize("key", ["lr", "momentum"])
def test_changed_hyperparameter_takes_effect_after_resume(session, data, key):
    session.fresh(digits, GOOD, data, iterations=2, stop_at=1)
    session.run(digits, {**GOOD, key: 0.5}, data, iterations=2)

    (group,) = session.state["optimizer"]["param_groups"]
    assert group[key] == 0.5


def test_lr_zero_after_resume_changes_no_weight(session, data):
    session.fresh(digits, GOOD, data, iterations=2, stop_at=1)
    before = session.state["model"]
    session.run(digits, {**GOOD, "lr": 0.0}, data, iterations=2)

    assert all(torch.equal(before[name], value) for name, value in session.state["model"].items())


def test_parts_are_fixed_and_disjoint(data):
    again = digits.load_data(None)

    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [1077, 360, 360]
    assert np.array_equal(again.val.inputs, data.val.inputs)
    assert np.array_equal(again.test.labels, data.test.labels)
    assert overlap(data.train, data.val) == overlap(data.train, data.test) == overlap(data.val, data.test) == 0


def test_parts_are_stratified(data):
    for part in (data.train, data.val, data.test):
        assert np.bincount(part.labels) / len(part.labels) == pytest.approx(np.full(10, 0.1), abs=0.01)


def test_predict_gives_the_accuracy_that_was_reported(session, data):
    reports = session.run(digits, GOOD, data, iterations=3)
    probabilities = digits.predict(GOOD, session.state, data.test.inputs)

    assert probabilities.shape == (360, 10)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(360), abs=1e-5)
    assert np.mean(probabilities.argmax(1) == data.test.labels) == reports[-1]["test_accuracy"]


def test_prepared_image_has_the_range_of_the_data():
    pixels = load_digits().images[0]
    image = Image.fromarray((pixels * 255 / 16).round().astype(np.uint8))

    prepared = digits.prepare_image(image)

    assert prepared.dtype == np.float32
    assert prepared.shape == (1, *digits.INPUT_SHAPE)
    assert prepared[0] == pytest.approx(pixels.ravel(), abs=0.1)
