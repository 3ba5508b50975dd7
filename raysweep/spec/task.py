"""A task: a training function with its search space and its metric, loaded from a module."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from raysweep.errors import BadInput
from raysweep.spec.flags import nearest
from raysweep.spec.rules import check, rule
from raysweep.values import takes_data


@dataclass(frozen=True)
class Task:
    """What is tuned.

    Attributes:
        name: as given to `--task`; `tasks.` is implied for a name without a dot.
        train: `train(config, data)`, or `train(config)` when there is no data.
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
        BadInput: mode or max_iterations is not what it may be.
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
        modes, at_least_1 = rule(str, ("max", "min")), rule(int, ge=1)
        found = [check("MODE", self.mode, modes), check("MAX_ITERATIONS", self.max_iterations, at_least_1)]
        if problems := [problem for _, problem in found if problem]:
            raise BadInput(*(f"`--task {self.name}`: {problem}" for problem in problems))

    @property
    def takes_data(self) -> bool:
        """Whether `train` has the data as its second argument."""
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
    missing = [part for part in ("SPACE", "METRIC", "MODE", "MAX_ITERATIONS", "train") if part not in vars(module)]
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
    # A user's own module is in the folder where the job was started, not in that of the job's file.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    for path in [name] if "." in name else [f"tasks.{name}", name]:
        if _exists(path):
            return _import(path, name)
    raise BadInput(f"`--task {name}`: there is no such module, in tasks/ or elsewhere{nearest(name, catalogue())}")


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


def catalogue() -> list[str]:
    """The names of the tasks in tasks/."""
    package = importlib.import_module("tasks")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


@dataclass(frozen=True)
class Reports:
    """What a training function reports, read from its source without running it.

    Attributes:
        metrics: the keys of its `report({...})` literals; None when they cannot be read.
        state: whether some `report` call passes `state=`; None when the source cannot be read.
    """

    metrics: tuple[str, ...] | None
    state: bool | None


def reports(train: Callable[..., None]) -> Reports:
    """Reads the `report` calls in a training function's source, so that a wrong metric is refused before the start."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(train)))
    except (OSError, TypeError, SyntaxError):
        return Reports(None, None)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_report(node)]
    if not calls:
        return Reports(None, None)
    keys = [key for call in calls for key in _literal_keys(call)]
    metrics = None if None in keys else tuple(dict.fromkeys(str(key) for key in keys))
    return Reports(
        metrics, any(k.arg in ("state", None) for call in calls for k in call.keywords) or _has_second(calls)
    )


def _is_report(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name == "report" and bool(call.args or call.keywords)


def _has_second(calls: list[ast.Call]) -> bool:
    return any(len(call.args) > 1 for call in calls)


def _literal_keys(call: ast.Call) -> list[str | None]:
    named = (keyword.value for keyword in call.keywords if keyword.arg == "metrics")
    metrics = call.args[0] if call.args else next(named, None)
    if not isinstance(metrics, ast.Dict):
        return [None]
    return [k.value if isinstance(k, ast.Constant) and isinstance(k.value, str) else None for k in metrics.keys]
