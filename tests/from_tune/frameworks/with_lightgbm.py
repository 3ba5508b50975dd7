"""LightGBM, with the callback that Ray ships for it."""

import lightgbm
import sklearn.datasets
from epoch_notes import note
from ray import tune
from ray.tune.integration.lightgbm import TuneReportCheckpointCallback
from sklearn.model_selection import train_test_split


def before(env):
    note(env.iteration + 1)


before.before_iteration = True


def train(config):
    x, y = sklearn.datasets.load_breast_cancer(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.25, random_state=0)
    begun = None
    if checkpoint := tune.get_checkpoint():
        begun = TuneReportCheckpointCallback.get_model(checkpoint)
    data = lightgbm.Dataset(train_x, label=train_y)
    lightgbm.train(
        {"objective": "binary", "metric": "binary_logloss", "verbose": -1, "num_threads": 1, **config},
        data,
        num_boost_round=6,
        valid_sets=[lightgbm.Dataset(test_x, label=test_y, reference=data)],
        valid_names=["test"],
        init_model=begun,
        callbacks=[before, TuneReportCheckpointCallback({"loss": "test-binary_logloss"}, frequency=1)],
    )


# For raysweep, instead of the Tuner.
SPACE = {"learning_rate": tune.loguniform(1e-2, 0.5), "num_leaves": tune.randint(4, 32)}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 6
MUTABLE = ("learning_rate",)
