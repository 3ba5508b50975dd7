"""Handwritten digits with a small neural network: a whole sweep takes seconds.

    python jobs/asha.py --task digits

Tuned: learning rate, momentum, batch size and width of a perceptron with one hidden layer.
Data: the 1797 pictures of 8x8 pixels that come with scikit-learn: 60% train, 20% validation, 20% test.
Metric: accuracy on the validation part; that on the test part is reported, and chooses nothing.

This is the file to copy for a task of your own: SPACE, METRIC, MODE, MAX_ITERATIONS and `train` are
needed, the rest is optional.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import tune

import raysweep

from ._data import Data, Part, hold_out

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

SPACE = {
    "lr": tune.loguniform(1e-3, 1.0),
    "momentum": tune.uniform(0.0, 0.95),
    "batch_size": tune.choice([16, 32, 64]),
    "width": tune.choice([32, 64, 128]),
}
METRIC, MODE = "val_accuracy", "max"
MAX_ITERATIONS = 10
MUTABLE = ("lr", "momentum")  # a running trial cannot change its width: the weights would not fit
INPUT_SHAPE = (64,)  # of `predict`


def load_data(root: Path | None) -> Data:
    """The three parts; runs once a sweep. `root`, the folder of --data, is not needed here."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    rest, test = hold_out(Part(pixels.astype(np.float32), labels), 0.2)
    return Data(*hold_out(rest, 0.25), test)


def train(config: dict[str, Any], data: Data) -> None:
    """One trial; an iteration is an epoch."""
    # Imported where it is used: the driver needs no torch, and what is wrong with its command is told sooner.
    import torch
    from torch import nn

    from ._tensors import accuracy, batches, device, restore, saved, tensors

    seed = config.get("seed", 0)
    torch.manual_seed(seed)
    model = _network(config).to(device())
    optimizer = torch.optim.SGD(model.parameters())
    restore(model, optimizer, raysweep.resume(), lr=config["lr"], momentum=config["momentum"])
    (inputs, labels), val, test = tensors(data.train), tensors(data.val), tensors(data.test)

    for epoch in raysweep.iterations():
        for batch in batches(len(labels), config["batch_size"], seed, epoch):
            loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        raysweep.report(
            {"val_accuracy": accuracy(model, *val), "test_accuracy": accuracy(model, *test)},
            state=saved(model, optimizer),
        )


def _network(config: dict[str, Any]) -> "nn.Module":
    from torch import nn

    from ._tensors import Scale

    width = config["width"]
    return nn.Sequential(Scale(4.9, 6.0), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def predict(config: dict[str, Any], state: Any, inputs: np.ndarray) -> np.ndarray:
    """Class probabilities of pictures, one a row of 64 pixels from 0 to 16."""
    from ._tensors import probabilities

    return probabilities(_network(config), state, inputs)


def prepare_image(image: "Image") -> np.ndarray:
    """A picture of one light digit on a dark ground, as an input of `predict`."""
    pixels: np.ndarray = np.asarray(image.convert("L").resize((8, 8)), np.float32).reshape(1, 64)
    return pixels * (16 / 255)
