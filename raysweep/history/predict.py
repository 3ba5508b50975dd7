"""Predictions of a sweep's best trial: classes and probabilities for a picture or an array."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raysweep import temporary
from raysweep.errors import BadInput
from raysweep.history.results import SweepResults
from raysweep.spec import task as tasks
from raysweep.spec.task import Task


@dataclass(frozen=True)
class Prediction:
    """The most likely class of one input, and its probability (0 to 1)."""

    label: int
    probability: float


def predict(results: SweepResults, image: Path | None, array: Path | None) -> list[Prediction]:
    """Predictions from the best trial's checkpoint, for a picture or for each input in an .npy file.

    Raises:
        BadInput: both or neither are given, the file is unreadable or has the wrong shape, or the task cannot predict.
        NotFound: the sweep has no best trial with a checkpoint.
        Corrupt: the checkpoint is not what was saved.
    """
    if image is not None and array is not None:
        raise BadInput(f"`--image {image}` and `--array {array}`: one at a time is allowed: leave one of them out")
    task = tasks.load(results.spec["task"])
    if task.predict is None:
        raise BadInput(f"task {task.name} has no predict(config, state, inputs): define it beside train")
    inputs = _picture(task, image) if image is not None else _array(task, array)
    best = replace(results, space=task.space).best
    with temporary.folder("predict") as own:
        state = results.load(folder=own / "checkpoint")  # or the path of that folder, if the checkpoint is one
        assert best is not None
        probabilities = task.predict(best["config"], state, inputs)
        return [Prediction(int(row.argmax()), float(row.max())) for row in probabilities]


def _picture(task: Task, path: Path) -> np.ndarray[Any, Any]:
    from PIL import Image, UnidentifiedImageError

    if task.prepare_image is None:
        raise BadInput(f"`--image {path}`: task {task.name} has no prepare_image(image): give --array FILE.npy")
    try:
        with Image.open(path) as picture:
            return task.prepare_image(picture)
    except (OSError, UnidentifiedImageError) as error:
        raise BadInput(f"`--image {path}`: must be a readable picture ({error}): give a PNG or JPEG file") from error


def _array(task: Task, path: Path | None) -> np.ndarray[Any, Any]:
    if path is None:
        raise BadInput("nothing to predict: give --image FILE or --array FILE.npy")
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"`--array {path}`: must be an .npy file of numbers ({error}): write it with numpy.save"
        ) from error
    shape = task.input_shape or values.shape[1:]
    if values.size == 0 or values.size % math.prod(shape):
        raise BadInput(f"`--array {path}`: shape {values.shape}: must be inputs of shape {shape} for task {task.name}")
    return np.asarray(values.reshape(-1, *shape), np.float32)
