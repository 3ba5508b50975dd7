"""A grid as a job, against scikit-learn's own: the same combinations, the same folds, the same figures."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from tasks import svm
from tests.ray_project import make_project


def test_grid_on_svm_is_grid_search_cv(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    axes = {name: domain.categories for name, domain in svm.SPACE.items()}

    done = project.python("jobs/grid.py", "--task", "svm", "--samples", "1", "--storage", "runs", "--name", "grid")

    assert done.returncode == 0, done.stdout
    data = svm.load_data(None)
    theirs = GridSearchCV(SVC(), axes, cv=svm.FOLDS, n_jobs=2).fit(data.train.inputs, data.train.labels)
    ours = pd.read_csv(tmp_path / "runs" / "grid" / "trials.csv").set_index([f"config/{name}" for name in axes])
    expected = {
        tuple(params[name] for name in axes): score
        for params, score in zip(theirs.cv_results_["params"], theirs.cv_results_["mean_test_score"], strict=True)
    }
    assert ours["val_accuracy"].to_dict() == expected
    best = json.loads((tmp_path / "runs" / "grid" / "best.json").read_text())
    assert expected[tuple(best["config"][name] for name in axes)] == theirs.best_score_
