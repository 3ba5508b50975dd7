"""What the tasks with data share: parts that are fixed, stratified and the same in every sweep."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """Some of the examples; Ray hands the arrays to every trial as read-only views of one shared memory."""

    inputs: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Data:
    """`train` fits a model, `val` chooses among models, `test` is only reported."""

    train: Part
    val: Part
    test: Part


def hold_out(part: Part, share: float) -> tuple[Part, Part]:
    """The rest, and a stratified share; the seed is not the trial's, so that all trials compare alike."""
    from sklearn.model_selection import train_test_split

    rest_x, share_x, rest_y, share_y = train_test_split(
        part.inputs, part.labels, test_size=share, stratify=part.labels, random_state=0
    )
    return Part(rest_x, rest_y), Part(share_x, share_y)
