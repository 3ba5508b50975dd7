"""XGBoost, with the callback that Ray ships for it."""

import sklearn.datasets
import xgboost
from epoch_notes import note
from ray import tune
from ray.tune.integration.xgboost import TuneReportCheckpointCallback
from sklearn.model_selection import train_test_split


class Note(xgboost.callback.TrainingCallback):
    def before_iteration(self, model, epoch, evals_log):
        note(model.num_boosted_rounds() + 1)
        return False


def train(config):
    x, y = sklearn.datasets.load_breast_cancer(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.25, random_state=0)
    begun = None
    if checkpoint := tune.get_checkpoint():
        begun = TuneReportCheckpointCallback.get_model(checkpoint)
    xgboost.train(
        {"objective": "binary:logistic", "eval_metric": "logloss", "nthread": 1, **config},
        xgboost.DMatrix(train_x, label=train_y),
        num_boost_round=6,
        evals=[(xgboost.DMatrix(test_x, label=test_y), "test")],
        verbose_eval=False,
        xgb_model=begun,
        callbacks=[Note(), TuneReportCheckpointCallback({"loss": "test-logloss"}, frequency=1)],
    )


# For raysweep, instead of the Tuner.
SPACE = {"eta": tune.loguniform(1e-2, 0.5), "max_depth": tune.randint(2, 6)}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 6
MUTABLE = ("eta",)
