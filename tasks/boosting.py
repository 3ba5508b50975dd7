"""Gradient boosted trees on tabular data: iterations without a neural network.

    python jobs/asha.py --task boosting

Tuned: learning rate, depth, and the share of examples and of columns that a tree sees.
Data: 569 tumours with 30 measurements each, benign or malignant, that come with scikit-learn: 60% train,
20% validation, 20% test.
Metric: log loss on the validation part, which ranks finer than accuracy does on so few examples; both
accuracies are reported, and choose nothing.
"""

from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import log_loss

import raysweep

from ._data import Data, Part, hold_out

SPACE = {
    "learning_rate": tune.loguniform(0.01, 1.0),
    "max_depth": tune.choice([1, 2, 3, 4]),
    "subsample": tune.uniform(0.3, 0.9),
    "max_features": tune.uniform(0.1, 1.0),
}
METRIC, MODE = "val_loss", "min"
MAX_ITERATIONS = 20
# What shapes the trees still to come. Not the learning rate: scikit-learn scales all trees with the newest.
MUTABLE = ("max_depth", "subsample", "max_features")
TREES = 10  # that an iteration adds
INPUT_SHAPE = (30,)  # of `predict`


def load_data(root: Path | None) -> Data:
    """The three parts; runs once a sweep. `root`, the folder of --data, is not needed here."""
    rest, test = hold_out(Part(*load_breast_cancer(return_X_y=True)), 0.2)
    return Data(*hold_out(rest, 0.25), test)


def train(config: dict[str, Any], data: Data) -> None:
    """One trial; an iteration adds TREES trees to those of the last."""
    # The model is the whole state: it holds its trees and its random generator.
    model = raysweep.resume() or GradientBoostingClassifier(warm_start=True, random_state=config.get("seed", 0))
    model.set_params(**{name: config[name] for name in SPACE})
    val, test = data.val, data.test

    for iteration in raysweep.iterations():
        model.set_params(n_estimators=iteration * TREES).fit(data.train.inputs, data.train.labels)
        raysweep.report(
            {
                "val_loss": float(log_loss(val.labels, model.predict_proba(val.inputs))),
                "val_accuracy": float(model.score(val.inputs, val.labels)),
                "test_accuracy": float(model.score(test.inputs, test.labels)),
            },
            state=model,
        )


def predict(config: dict[str, Any], state: GradientBoostingClassifier, inputs: np.ndarray) -> np.ndarray:
    """Probabilities of malignant and benign, one row a tumour."""
    probabilities: np.ndarray = state.predict_proba(inputs)
    return probabilities
