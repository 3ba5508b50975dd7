"""A task: a training function with its search space and its metric, loaded from a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from raysweep import kit
from raysweep.errors import BadInput
from raysweep.spec import catalogue
from raysweep.spec.flags import MOST, nearest
from raysweep.spec.function import takes_data
from raysweep.spec.rules import check, rule


@dataclass(frozen=True)
class Task:
    """What is tuned.

    Attributes:
        name: as given to `--task`: that of a module, or without a dot a file of the project's tasks/, one in its
            folder, or one of the kit's tasks.
        train: `train(config, data)`, or `train(config)` when there is no data; what may be called so, see `function`.
        space: parameter -> one of Ray's domains (`tune.loguniform(…)`, `tune.choice([…])`, …) or a constant.
        metric: the key of `raysweep.report` that is optimised.
        mode: "max" or "min".
        max_iterations: number of reports after which a trial is complete.
        mutable: parameters that population based training may change in a running trial.
        load_data: `load_data(root)`, called once per sweep, in the driver; None for a task without data.
        predict: `predict(config, state, inputs) -> probabilities` of shape (n, classes), for `raysweep predict`.
        prepare_image: `prepare_image(picture) -> inputs`, from a PIL image.
        input_shape: shape of one input of `predict`.
        reuse_actors: whether the next trial may run in the process of the last one; False for a task that leaves
            state behind in its process: each trial then gets a new one, which takes longer.

    Raises:
        BadInput: what it says of itself is not what it may be; all problems.
    """

    name: str
    train: Callable[..., None]
    space: dict[str, Any]
    metric: str
    mode: str
    max_iterations: int
    mutable: tuple[str, ...] | None = None
    load_data: Callable[[Path | None], Any] | None = None
    predict: Callable[..., Any] | None = None
    prepare_image: Callable[..., Any] | None = None
    input_shape: tuple[int, ...] | None = None
    reuse_actors: bool = True

    def __post_init__(self) -> None:
        found = [
            check("SPACE", self.space, rule(dict[Any, Any])),
            check("METRIC", self.metric, rule(str)),
            check("MODE", self.mode, rule(str, ("max", "min"))),
            check("MAX_ITERATIONS", self.max_iterations, rule(int, ge=1, le=MOST)),
            check("MUTABLE", self.mutable, rule(tuple[str, ...] | None)),
            check("REUSE_ACTORS", self.reuse_actors, rule(bool)),
        ]
        if problems := [problem for _, problem in found if problem]:
            raise BadInput(*(f"`--task {self.name}`: {problem}" for problem in problems))

    @property
    def takes_data(self) -> bool:
        """Whether `train` has a parameter for the data."""
        return takes_data(self.train)


def load(name: str) -> Task:
    """The task of that name.

    Raises:
        BadInput: there is no such module (names the nearest match), it cannot be imported, or it lacks a required
            name.
    """
    return of_module(_module(name), name)


def of_module(module: ModuleType, name: str) -> Task:
    """The task of a module; the error lists all missing names."""
    missing = [
        part for part in ("SPACE", "METRIC", "MODE", "MAX_ITERATIONS", "train") if vars(module).get(part, "") == ""
    ]
    if missing:
        raise BadInput(f"`--task {name}`: {module.__file__} defines no {', '.join(missing)}; see README, own task")
    return Task(
        name=name,
        train=module.train,
        space=module.SPACE,
        metric=module.METRIC,
        mode=module.MODE,
        max_iterations=module.MAX_ITERATIONS,
        mutable=getattr(module, "MUTABLE", None),
        load_data=getattr(module, "load_data", None),
        predict=getattr(module, "predict", None),
        prepare_image=getattr(module, "prepare_image", None),
        input_shape=getattr(module, "INPUT_SHAPE", None),
        reuse_actors=getattr(module, "REUSE_ACTORS", True),
    )


def _module(name: str) -> ModuleType:
    # A user's own module is in the folder where the job was started, not in that of the job's file. First, as for the
    # trials: Ray puts that folder first for them.
    project = Path.cwd()
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    for path in _meanings(name, project):
        if _exists(path):
            return _import(path, name)
    if (project / "tasks" / f"{name}.py").is_file():
        raise BadInput(
            f"`--task {name}`: tasks/{name}.py is hidden by another package that is called tasks: give this folder"
            " priority by an empty file tasks/__init__.py"
        )
    known = list(catalogue.tasks(project))
    raise BadInput(f"`--task {name}`: there is no such module, in tasks/ or elsewhere{nearest(name, known)}")


def _meanings(name: str, project: Path) -> list[str]:
    """The modules that a name may mean: the project's own go before the kit's, and those before installed ones."""
    if "." in name:
        return [name]
    own = [f"tasks.{name}"] if (project / "tasks" / f"{name}.py").is_file() else []
    beside = [name] if (project / f"{name}.py").is_file() or (project / name / "__init__.py").is_file() else []
    return [*own, *beside, f"{kit.PREFIX}tasks.{name}", name]


def _import(path: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}, line {frame.lineno}"
        raise BadInput(f"`--task {name}`: it cannot be imported: {type(error).__name__}: {error} ({place})") from error


def _exists(path: str) -> bool:
    # A file's path or a relative name is not the name of a module.
    if not all(part.isidentifier() for part in path.split(".")):
        return False
    try:
        return importlib.util.find_spec(path) is not None
    except (ModuleNotFoundError, ValueError):
        return False
