"""A support vector machine on handwritten digits, cross-validated: a task without iterations.

    python jobs/grid.py --task svm

Tuned: kernel, C and gamma. Every parameter is a choice, so a grid search takes the space as it is.
Data: the 1797 pictures of 8x8 pixels that come with scikit-learn; 20% of them are the test part.
Metric: mean accuracy of five stratified folds, as GridSearchCV(SVC(), ..., cv=FOLDS) computes it; that of a
machine fitted to all five, on the test part, is reported, and chooses nothing.

A trial is one report. Schedulers that stop trials early have nothing to stop here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import SVC

import raysweep

from ._data import Part, hold_out

SPACE = {
    "kernel": tune.choice(["rbf", "poly"]),
    "C": tune.choice([0.1, 1.0, 10.0, 100.0]),
    "gamma": tune.choice([0.01, 0.03, 0.1, 0.3]),
}
METRIC, MODE = "val_accuracy", "max"
MAX_ITERATIONS = 1
FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)


@dataclass(frozen=True)
class Data:
    """No validation part: each fold is one in its turn."""

    train: Part
    test: Part


def load_data(root: Path | None) -> Data:
    """The two parts; runs once a sweep. `root`, the folder of --data, is not needed here."""
    pixels, labels = load_digits(return_X_y=True)
    return Data(*hold_out(Part(pixels / 16, labels), 0.2))


def train(config: dict[str, Any], data: Data) -> None:
    """One trial; its loop runs once."""
    for _ in raysweep.iterations():
        folds = cross_val_score(_machine(config), data.train.inputs, data.train.labels, cv=FOLDS)
        machine = _machine(config).fit(data.train.inputs, data.train.labels)
        raysweep.report(
            {
                "val_accuracy": float(np.mean(folds)),
                "test_accuracy": float(machine.score(data.test.inputs, data.test.labels)),
            },
            state=machine,
        )


def _machine(config: dict[str, Any]) -> SVC:
    return SVC(**{name: config[name] for name in SPACE})
