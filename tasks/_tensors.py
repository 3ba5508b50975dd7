"""What the tasks with torch share: tensors over shared memory, and trials that can be resumed exactly."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._data import Part

EVALUATION_BATCH = 1000  # activations that fit a core's cache: a quarter faster than all examples at once


def device() -> str:
    """Where a trial computes: on the GPU that Ray gave it, if any."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor, without a copy.

    Ray's arrays are read-only, of which torch warns; nothing here writes to its inputs.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def tensors(part: Part) -> tuple[Tensor, Tensor]:
    """Inputs and labels on the trial's device, once a trial."""
    return tensor(part.inputs).to(device()), tensor(part.labels).to(device(), torch.long)


class Scale(nn.Module):
    """A network's first layer: pixels as the data have them to about -1 ... 1."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, pixels: Tensor) -> Tensor:
        """Numbers of 32 bits, of bytes too."""
        return (pixels - self.mean) / self.deviation


def batches(examples: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Shuffled indices of an epoch.

    They follow from seed and epoch alone: a resumed trial needs no state of a random generator.
    """
    order = np.random.default_rng((seed, epoch)).permutation(examples)
    return torch.split(torch.from_numpy(order).to(device()), batch_size)


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, state: Any, **hyperparameters: float) -> None:
    """Loads what `saved` returned, if anything, then sets the optimizer's hyperparameters.

    In this order: the optimizer's state holds its old hyperparameters, and population based training
    continues a trial with new ones.
    """
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for group in optimizer.param_groups:
        group.update(hyperparameters)


def saved(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state to report: on the CPU, so that a machine without a GPU can continue it."""
    return {"model": _on_cpu(model.state_dict()), "optimizer": _on_cpu(optimizer.state_dict())}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value


@torch.inference_mode()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of the examples whose likeliest class is the right one."""
    pairs = zip(torch.split(inputs, EVALUATION_BATCH), torch.split(labels, EVALUATION_BATCH), strict=True)
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs)
    return right / len(labels)


@torch.inference_mode()
def probabilities(model: nn.Module, state: Any, inputs: np.ndarray) -> np.ndarray:
    """Class probabilities, one row an input, of the model that a trial saved."""
    model.load_state_dict(state["model"])
    result: np.ndarray = model(tensor(inputs)).softmax(1).numpy()
    return result
