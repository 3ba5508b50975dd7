"""Drives a class of Ray Tune's, `tune.Trainable`, by its public methods: set up, restore, train, save, stop.

Each run has a new object: `reset_config`, by which an object could be used again, saves time only.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from raysweep import ray_private
from raysweep.spec.function import saves
from raysweep.values import SHOULD_CHECKPOINT

RESULT = "result"  # in the metadata of a checkpoint: the numbers of the step after which it was saved


class Trial(Protocol):
    """What the object is told of its trial, and tells it."""

    @property
    def trial_dir(self) -> str:
        """A folder of the trial on its node."""

    @property
    def loaded_checkpoint(self) -> Any:
        """Ray's checkpoint that the trial goes on from, or None."""

    def scratch(self, name: str) -> Path:
        """A place for a folder of the trial on its node."""

    def iterations(self) -> Iterator[int]:
        """Those that are still to do."""

    def report(self, metrics: Any, checkpoint: Any = None) -> None:
        """Reports one iteration; does not return if it is the last one."""


def drive(cls: Any, config: dict[str, Any], trial: Trial) -> None:
    """Runs a trial of a `Trainable`, until it is done or stopped.

    It is saved after each step, if it can be: only then a scheduler may pause it after any, and a death costs one. A
    step that says itself whether it is to be saved, by `should_checkpoint` in its result, is heard.
    """
    from ray.tune.result import TRIAL_INFO

    each = cls({**config, TRIAL_INFO: trial}, ray_private.KeptByTheTrial(trial.trial_dir))
    added = {*each.get_auto_filled_metrics()}  # to each result, and none of them is the user's
    try:
        if checkpoint := trial.loaded_checkpoint:
            each.restore(ray_private.result_of(checkpoint, checkpoint.get_metadata().get(RESULT, {})))
        for _ in trial.iterations():
            result = each.train()
            to_save = saves(cls) and result.get(SHOULD_CHECKPOINT, True)
            with _saved(each, trial.scratch("checkpoint")) if to_save else contextlib.nullcontext() as checkpoint:
                trial.report({name: value for name, value in result.items() if name not in added}, checkpoint)
    finally:
        each.stop()


@contextlib.contextmanager
def _saved(each: Any, folder: Path) -> Iterator[Any]:
    """Ray's checkpoint of the object, in a folder that is removed at the end of the context."""
    try:
        saved = each.save(str(folder))
        numbers = {name: value for name, value in saved.metrics.items() if isinstance(value, int | float)}
        saved.checkpoint.update_metadata({RESULT: numbers})
        yield saved.checkpoint
    finally:
        shutil.rmtree(folder, ignore_errors=True)
