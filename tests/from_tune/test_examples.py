"""Each of Ray Tune's own examples, as it lies in the wheel: what it tunes runs under ASHA, and PBT where it goes on."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune import examples

import raysweep
from raysweep.history import checkpoint
from raysweep.storage import open_storage
from tests.from_tune import FULL
from tests.ray_project import ROOT, clean_environment

BOTH, NO_PBT = ("asha", "pbt"), ("asha",)


@dataclass(frozen=True)
class Example:
    """What an example tunes. It can run under PBT if it goes on from the checkpoints that it saves."""

    file: str
    name: str
    space: dict[str, Any]
    metric: str
    mode: str = "min"
    strategies: tuple[str, ...] = NO_PBT
    mutable: tuple[str, ...] | None = None

    @property
    def chosen(self) -> tuple[str, ...]:
        """The strategies of this test run: PBT asks for more than ASHA does."""
        return self.strategies if FULL else self.strategies[-1:]


# The spaces are those of the examples; where an example leaves a part to another library, it is written as Tune has it.
SIZES = {"steps": 100, "width": tune.uniform(10, 100), "height": tune.uniform(1, 100)}
PLACES = {"iterations": 100} | {f"x{number}": tune.uniform(0.0, 1.0) for number in range(1, 7)}
ACTIVATION = {"activation": tune.choice(["relu", "tanh"])}
KINDS = {"kind": tune.choice([{"activation": "relu", "mult": tune.uniform(1, 2)}, {"activation": "tanh"}])}
RATE = {"lr": tune.uniform(0.0001, 0.02), "some_other_factor": tune.choice([1, 2])}
LIGHTGBM = {
    "objective": "binary", "metric": tune.choice([["binary_error", "binary_logloss"]]), "verbose": -1,
    "boosting_type": tune.choice(["gbdt", "dart"]), "num_leaves": tune.randint(10, 1000),
    "learning_rate": tune.loguniform(1e-8, 1e-1), "num_threads": 1,
}  # fmt: skip
XGBOOST = {
    "objective": "binary:logistic", "eval_metric": tune.choice([["logloss", "error"]]), "max_depth": tune.randint(1, 9),
    "min_child_weight": tune.choice([1, 2, 3]), "subsample": tune.uniform(0.5, 1.0), "eta": tune.loguniform(1e-4, 1e-1),
}  # fmt: skip
FORESTS = {
    "objective": "binary:logistic", "eval_metric": tune.choice([["logloss", "error"]]), "max_depth": 9,
    "learning_rate": 1, "min_child_weight": tune.choice([2, 3]), "subsample": tune.choice([0.8, 0.9]),
    "colsample_bynode": tune.choice([0.8, 0.9]), "random_state": 1, "num_parallel_tree": 20,
}  # fmt: skip
CIFAR = {"l1": 16, "l2": 16, "lr": tune.loguniform(1e-4, 1e-1), "batch_size": tune.choice([8, 16]), "smoke_test": True}

RUN = [
    Example("async_hyperband_example", "easy_objective", SIZES, "mean_loss"),
    Example("ax_example", "easy_objective", PLACES, "hartmann6"),
    Example("bayesopt_example", "easy_objective", SIZES, "mean_loss"),
    Example("bohb_example", "MyTrainableClass", SIZES, "episode_reward_mean", "max", BOTH),
    Example("cifar10_pytorch", "train_cifar", CIFAR, "loss", "min", BOTH, ("lr",)),
    Example("custom_checkpointing_with_callback", "OptimizationTrainable", SIZES, "mean_loss", "min", BOTH),
    Example("custom_func_checkpointing", "train_func", SIZES, "mean_loss", "min", BOTH),
    Example("hyperband_example", "MyTrainableClass", SIZES, "episode_reward_mean", "max", BOTH),
    Example("hyperband_function_example", "train_func", SIZES, "episode_reward_mean", "max", BOTH),
    Example("hyperopt_conditional_search_space_example", "easy_objective", SIZES | KINDS, "mean_loss"),
    Example("lightgbm_example", "train_breast_cancer", LIGHTGBM, "binary_error"),
    Example("lightgbm_example", "train_breast_cancer_cv", LIGHTGBM, "binary_error"),
    Example("logging_example", "easy_objective", SIZES, "mean_loss"),
    Example("mlflow_example", "train_function", SIZES, "mean_loss"),
    Example("nevergrad_example", "easy_objective", SIZES | ACTIVATION, "mean_loss"),
    Example("optuna_define_by_run_example", "easy_objective", SIZES | ACTIVATION, "mean_loss"),
    Example("optuna_example", "easy_objective", SIZES | ACTIVATION, "mean_loss"),
    Example("optuna_multiobjective_example", "easy_objective", SIZES | ACTIVATION, "loss"),
    Example("pb2_example", "pbt_function", RATE | {"checkpoint_interval": 1}, "mean_accuracy", "max"),
    Example("pbt_example", "PBTBenchmarkExample", RATE, "mean_accuracy", "max", BOTH),
    Example("pbt_function", "pbt_function", RATE | {"checkpoint_interval": 2}, "mean_accuracy", "max", BOTH),
    Example("tune_basic_example", "easy_objective", SIZES | ACTIVATION, "mean_loss"),
    Example("xgboost_dynamic_resources_example", "train_breast_cancer", FORESTS, "eval-logloss", "min", BOTH,
            ("subsample", "colsample_bynode")),
    Example("xgboost_example", "train_breast_cancer", XGBOOST, "test-logloss"),
    Example("xgboost_example", "train_breast_cancer_cv", XGBOOST, "test-logloss"),
]  # fmt: skip

# With MNIST in the home folder, where they download it to.
CONVOLUTION = {"lr": tune.uniform(0.001, 0.1), "momentum": tune.uniform(0.1, 0.9)}
WITH_MNIST = [
    Example("mnist_pytorch", "train_mnist", CONVOLUTION | {"should_checkpoint": True}, "mean_accuracy", "max"),
    Example("mnist_pytorch_trainable", "TrainMNIST", CONVOLUTION, "mean_accuracy", "max", BOTH),
    Example("pbt_convnet_example", "PytorchTrainable", CONVOLUTION, "mean_accuracy", "max", BOTH),
    Example("pbt_convnet_function_example", "train_convnet", CONVOLUTION, "mean_accuracy", "max", BOTH),
]

# What cannot run here, and why.
TENSORFLOW = "needs TensorFlow, which is not among the frameworks of the tests"
RLLIB = "needs RLlib and a simulator of robots"
DOWNLOADS = "downloads its data from a hub, and has been written for Lightning before 2.0"
NOT_RUN = {
    "__init__": "is empty",
    "mlflow_ptl": DOWNLOADS,
    "mnist_ptl_mini": DOWNLOADS,
    "pb2_ppo_example": RLLIB,
    "pbt_dcgan_mnist/__init__": "is empty",
    "pbt_dcgan_mnist/common": "downloads a trained model, and needs matplotlib",
    "pbt_dcgan_mnist/pbt_dcgan_mnist_func": "downloads a trained model, and needs matplotlib",
    "pbt_dcgan_mnist/pbt_dcgan_mnist_trainable": "downloads a trained model, and needs matplotlib",
    "pbt_memnn_example": TENSORFLOW,
    "pbt_ppo_example": RLLIB,
    "pbt_transformers/__init__": "is empty",
    "pbt_transformers/pbt_transformers": "downloads a model, and has been written for transformers before 5",
    "pbt_transformers/utils": "is a part of the one before",
    "pbt_tune_cifar10_with_keras": TENSORFLOW,
    "tf_mnist_example": TENSORFLOW,
    "tune_mnist_keras": TENSORFLOW,
    "utils": TENSORFLOW,
}


def test_every_example_of_the_wheel_runs_here_or_has_a_reason_why_not() -> None:
    folder = Path(inspect.getfile(examples)).parent
    there = {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.py")}
    run = {example.file for example in RUN + WITH_MNIST}
    assert run | {*NOT_RUN} == there
    assert not run & {*NOT_RUN}


def tuned(example: Example) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(f"ray.tune.examples.{example.file}"), example.name)


def check(example: Example, strategy: str, storage: str) -> None:
    """Runs it, and looks at what is in the storage."""
    population = {"samples": 3, "max_iterations": 4, "knobs": {"perturbation_interval": 2}, "mutable": example.mutable}
    settings = population if strategy == "pbt" else {"samples": 2, "max_iterations": 2, "concurrency": 1}
    results = raysweep.run(
        strategy, tuned(example), example.space, metric=example.metric, mode=example.mode, storage=storage,
        name=f"{example.file}-{strategy}", **settings,
    )  # fmt: skip
    trials = results.state.trials.values()
    assert {trial.status for trial in trials} <= {"finished", "stopped"}
    assert isinstance(results.best[example.metric], int | float)
    if strategy == "pbt":
        place = open_storage(storage).child(f"{example.file}-{strategy}")
        assert all(trial.last is not None and trial.last.iteration == 4 for trial in trials)
        assert all(checkpoint.verified(place, trial.id) for trial in trials)


@pytest.mark.parametrize(
    ("example", "strategy"),
    [
        pytest.param(each, strategy, id=f"{each.file}-{each.name}-{strategy}")
        for each in RUN
        for strategy in each.chosen
    ],
)
def test_it_runs_as_it_stands(private_ray: None, storage: str, example: Example, strategy: str) -> None:
    check(example, strategy, storage)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def write_mnist(folder: Path) -> None:
    """Noise in the format of MNIST."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name, count in (("train", 640), ("t10k", 320)):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(draw.integers(0, 255, (count, 28, 28), np.uint8)))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(draw.integers(0, 9, count, np.uint8)))


WITH_MNIST_SCRIPT = """
import sys
from tests.from_tune.test_examples import WITH_MNIST, check

for example in WITH_MNIST:
    for strategy in example.chosen:
        check(example, strategy, sys.argv[1])
        print("RAN", example.file)
"""


@pytest.mark.timeout(600)
def test_those_with_mnist_run_as_they_stand(tmp_path: Path) -> None:
    """In a process with a home of its own. One of them writes its checkpoints to a folder in the current one."""
    write_mnist(tmp_path / "data" / "MNIST" / "raw")
    done = subprocess.run(
        [sys.executable, "-c", WITH_MNIST_SCRIPT, str(tmp_path / "runs")],
        cwd=tmp_path, env=clean_environment(tmp_path, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert done.stdout.count("RAN") == sum(len(example.chosen) for example in WITH_MNIST), done.stdout
    assert not (tmp_path / "my_model").exists()
