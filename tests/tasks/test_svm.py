import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

from tasks import digits, svm
from tests.tasks.session import overlap, read_only

CONFIG = {"kernel": "rbf", "C": 10.0, "gamma": 0.1}


@pytest.fixture(scope="module")
def data():
    return read_only(svm.load_data(None))


def test_metric_is_the_mean_of_the_folds(session, data):
    (report,) = session.run(svm, CONFIG, data)
    folds = cross_val_score(SVC(**CONFIG), data.train.inputs, data.train.labels, cv=svm.FOLDS)

    assert report["val_accuracy"] == np.mean(folds)
    assert report["val_accuracy"] >= 0.98


def test_metrics_equal_those_of_grid_search_cv(session, data):
    axes = {"kernel": ["rbf"], "C": [0.1, 10.0], "gamma": [0.03, 0.3]}
    search = GridSearchCV(SVC(), axes, cv=svm.FOLDS).fit(data.train.inputs, data.train.labels)

    ours = [session.fresh(svm, config, data)[0]["val_accuracy"] for config in search.cv_results_["params"]]

    assert ours == search.cv_results_["mean_test_score"].tolist()


def test_state_is_the_machine_that_was_scored(session, data):
    (report,) = session.run(svm, CONFIG, data)

    assert session.state.score(data.test.inputs, data.test.labels) == report["test_accuracy"]


def test_finished_trial_does_nothing_on_resume(session, data):
    before = list(session.run(svm, CONFIG, data))

    assert session.run(svm, CONFIG, data) == before


def test_every_parameter_is_a_choice():
    assert all(len(domain.categories) > 1 for domain in svm.SPACE.values())


def test_parts_are_disjoint_and_the_test_part_is_that_of_digits(data):
    assert [len(data.train.labels), len(data.test.labels)] == [1437, 360]
    assert overlap(data.train, data.test) == 0
    assert np.array_equal(data.test.labels, digits.load_data(None).test.labels)
