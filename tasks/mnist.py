"""MNIST, or Fashion-MNIST, with the classic perceptron 784-l1-l2-10: seconds an epoch on one core.

    python jobs/asha.py --task mnist --data DIR

Tuned: learning rate and momentum of SGD, and the sizes of two hidden layers.
Data: DIR holds the four idx files, gzipped or not, or what torchvision keeps (DIR/MNIST/raw, then
DIR/FashionMNIST/raw); the files say what the data are. Without --data, torchvision downloads MNIST to the
user's cache; `--task fashion_mnist` is this task with Fashion-MNIST downloaded. One twelfth of the training files
(5000 pictures) is the validation part.
Metric: accuracy on the validation part; that on the test files is reported, and chooses nothing.

A trial reads pixels as bytes from Ray's shared memory (55 MB a machine, not a trial) and converts them
batch by batch, which costs about a hundredth of the epoch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ray import tune

import raysweep

from ._data import Data, Part, hold_out
from ._mnist_files import downloaded, read

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

SPACE = {
    "lr": tune.uniform(1e-4, 0.1),
    "momentum": tune.uniform(0.1, 0.9),
    "l1": tune.choice([256, 512]),
    "l2": tune.choice([16, 32, 64, 128]),
}
METRIC, MODE = "val_accuracy", "max"
MAX_ITERATIONS = 10
MUTABLE = ("lr", "momentum")
BATCH_SIZE = 64
INPUT_SHAPE = (784,)  # of `predict`


def load_data(root: Path | None) -> Data:
    """The three parts; runs once a sweep, in the driver.

    Raises:
        BadInput: the files are not there, not readable, or cannot be downloaded.
    """
    return parts(root or downloaded("MNIST"))


def parts(folder: Path) -> Data:
    """The three parts of the files in a folder."""
    train_x, train_y, test_x, test_y = read(folder)
    return Data(*hold_out(Part(train_x.reshape(-1, 784), train_y), 1 / 12), Part(test_x.reshape(-1, 784), test_y))


def train(config: dict[str, Any], data: Data) -> None:
    """One trial; an iteration is an epoch."""
    # Imported where it is used: the driver needs no torch, and what is wrong with its command is told sooner.
    import torch
    from torch import nn

    from ._tensors import accuracy, batches, device, restore, saved, tensors

    seed = config.get("seed", 0)
    torch.manual_seed(seed)
    model = _network(config).to(device())
    optimizer = torch.optim.SGD(model.parameters(), fused=True)  # one pass over the weights: 5% of the epoch
    restore(model, optimizer, raysweep.resume(), lr=config["lr"], momentum=config["momentum"])
    (images, labels), val, test = tensors(data.train), tensors(data.val), tensors(data.test)

    for epoch in raysweep.iterations():
        for batch in batches(len(labels), BATCH_SIZE, seed, epoch):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
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

    l1, l2 = config["l1"], config["l2"]
    return nn.Sequential(
        Scale(0.0, 255.0), nn.Linear(784, l1), nn.ReLU(), nn.Linear(l1, l2), nn.ReLU(), nn.Linear(l2, 10)
    )


def predict(config: dict[str, Any], state: Any, inputs: np.ndarray) -> np.ndarray:
    """Class probabilities of pictures, one a row of 784 pixels from 0 to 255."""
    from ._tensors import probabilities

    return probabilities(_network(config), state, inputs)


def prepare_image(image: "Image") -> np.ndarray:
    """A picture of one light figure on a dark ground, as an input of `predict`."""
    return np.asarray(image.convert("L").resize((28, 28))).reshape(1, 784)
