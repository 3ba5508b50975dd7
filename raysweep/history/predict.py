"""Predictions of a sweep's best trial: a picture or an array in, classes and probabilities out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raysweep.errors import BadInput
from raysweep.history.results import SweepResults
from raysweep.spec import task as tasks
from raysweep.spec.task import Task


@dataclass(frozen=True)
class Prediction:
    """The likeliest class of one input, and how likely it is (0 to 1)."""

    label: int
    probability: float


def predict(found: SweepResults, image: Path | None, array: Path | None) -> list[Prediction]:
    """What the best trial's checkpoint says of a picture, or of each input of an .npy file.

    Raises:
        BadInput: both or none are given, the file is unreadable or of the wrong shape, or the task cannot predict.
        NotFound: the sweep has no checkpoint of a best trial.
        Corrupt: the checkpoint is not what was saved.
    """
    if image is not None and array is not None:
        raise BadInput(f"`--image {image}` and `--array {array}`: one at a time: leave one of them out")
    task = tasks.load(found.spec["task"])
    if task.predict is None:
        raise BadInput(f"task {task.name} has no predict(config, state, inputs): define it beside train")
    inputs = _picture(task, image) if image is not None else _array(task, array)
    best, state = found.best, found.load()
    assert best is not None
    chances = task.predict(best["config"], state, inputs)
    return [Prediction(int(row.argmax()), float(row.max())) for row in chances]


def _picture(task: Task, path: Path) -> np.ndarray[Any, Any]:
    from PIL import Image, UnidentifiedImageError

    if task.prepare_image is None:
        raise BadInput(f"`--image {path}`: task {task.name} has no prepare_image(image): give --array FILE.npy")
    try:
        with Image.open(path) as picture:
            return task.prepare_image(picture)
    except (OSError, UnidentifiedImageError) as error:
        raise BadInput(
            f"`--image {path}`: not a picture that can be read ({error}): give a PNG or JPEG file"
        ) from error


def _array(task: Task, path: Path | None) -> np.ndarray[Any, Any]:
    if path is None:
        raise BadInput("nothing to predict: give --image FILE or --array FILE.npy")
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"`--array {path}`: not an .npy file of numbers ({error}): write it with numpy.save") from error
    shape = task.input_shape or values.shape[1:]
    if values.size == 0 or values.size % math.prod(shape):
        raise BadInput(f"`--array {path}`: shape {values.shape}: task {task.name} wants inputs of shape {shape}")
    return np.asarray(values.reshape(-1, *shape), np.float32)
