"""The task mnist on pictures of clothes: as large as MNIST, and harder.

    python jobs/asha.py --task fashion_mnist

Without --data, torchvision downloads Fashion-MNIST to the user's cache; Debian's `dataset-fashion-mnist` has it in
/usr/share/datasets/fashion-mnist. All else is as in mnist.py.
"""

from pathlib import Path

from ._data import Data
from ._mnist_files import downloaded
from .mnist import INPUT_SHAPE, MAX_ITERATIONS, METRIC, MODE, MUTABLE, SPACE, parts, predict, prepare_image, train

__all__ = [
    "INPUT_SHAPE",
    "MAX_ITERATIONS",
    "METRIC",
    "MODE",
    "MUTABLE",
    "SPACE",
    "load_data",
    "predict",
    "prepare_image",
    "train",
]


def load_data(root: Path | None) -> Data:
    """The three parts; runs once a sweep, in the driver.

    Raises:
        BadInput: the files are not there, not readable, or cannot be downloaded.
    """
    return parts(root or downloaded("FashionMNIST"))
