"""A training function, in whatever form it is given: its name, whether a trial can call it, and where its data go.

It may be a plain function, a lambda, a method, a `functools.partial`, a decorated function or an object with
`__call__`; of Ray Tune's, also a generator, a `tune.Trainable`, and what `tune.with_parameters` or
`tune.with_resources` makes of them. Each trial calls it with the configuration, and with the data if it wants them.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from inspect import Parameter
from typing import Any

BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)
ANY_NUMBER = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
NEVER_RUN = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
WRAPPERS = "ray.tune.trainable.util"  # where `tune.with_parameters` and `tune.with_resources` are


def name_of(train: Any) -> str:
    """A name to read: that of the function in a partial, and of the class of an object; a lambda is `lambda`."""
    while isinstance(train, functools.partial):
        train = train.func
    return str(getattr(train, "__name__", type(train).__name__)).strip("<>")


def plain(train: Any) -> Any:
    """The function with the source: without partials, decorators, and the object that it is called on."""
    train = unwrapped(train)
    while isinstance(train, functools.partial):
        train = unwrapped(train.func)
    if not (inspect.isroutine(train) or inspect.isclass(train)):
        train = getattr(type(train), "__call__", train)  # noqa: B004
    return inspect.unwrap(getattr(train, "__func__", train))


def unwrapped(train: Any) -> Any:
    """What `tune.with_parameters` or `tune.with_resources` was given, if this is what it made of it."""
    while getattr(train, "__module__", None) == WRAPPERS:
        if inspect.isclass(train):
            train = train.__base__
        else:
            inside = inspect.getclosurevars(train).nonlocals
            if "trainable" not in inside:
                break
            train = inside["trainable"]
    return train


def is_trainable(train: Any) -> bool:
    """Whether it is a class of Ray Tune's; Ray is not imported to find out."""
    tune = sys.modules.get("ray.tune")
    return inspect.isclass(train) and tune is not None and issubclass(train, tune.Trainable)


def saves(trainable: Any) -> bool:
    """Whether a class of Ray Tune's can be saved."""
    return trainable.save_checkpoint is not sys.modules["ray.tune"].Trainable.save_checkpoint


def takes_data(train: Callable[..., None]) -> bool:
    """Whether the function has a parameter for the task's data."""
    return _data_parameter(_signature(train)) is not None


def problems(train: Any) -> list[str]:
    """Why no trial can call what was given as the function, if so; each goes on where "`train` of task …" ends."""
    if kind := _no_function(train):
        return [f"is {kind}: give a function `train(config)` that calls raysweep.report"]
    try:
        signature = _signature(train)
    except (TypeError, ValueError):
        return ["does not say which parameters it has: wrap it in a function `train(config)`"]
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in BY_POSITION:
        return ["has no parameter for the configuration: make it `train(config)`"]
    data = _data_parameter(signature)
    missing = " and ".join(f"`{p.name}`" for p in _required(parameters) if p is not data)
    if not missing:
        return []
    return [f"also wants {missing}, and is given configuration and `data`: give a default, or use functools.partial"]


def _no_function(train: Any) -> str | None:
    """What was given instead of a function that runs when it is called."""
    if not callable(train):
        return f"of type {type(train).__name__}, which cannot be called"
    if is_trainable(train):
        return None
    if inspect.isclass(train):
        return "a class, which is made when it is called, and not run"
    if inspect.isbuiltin(train):
        return f"Python's own `{train.__name__}`, which reports nothing"
    call = train if inspect.isroutine(train) or isinstance(train, functools.partial) else type(train).__call__
    if any(never_run(call) for never_run in NEVER_RUN):
        return "async, so that calling it runs nothing"
    return None


def with_data(train: Callable[..., None], data: Any) -> Callable[[dict[str, Any]], None]:
    """The function with its data, by keyword wherever it can be: it may have other parameters before.

    None stands for no data: a default is then left as it is.
    """
    parameter = _data_parameter(_signature(train))
    if parameter is None or (data is None and parameter.default is not parameter.empty):
        return train
    own = inspect.signature(train, follow_wrapped=False).parameters
    by_keyword = parameter.name in own or any(p.kind is Parameter.VAR_KEYWORD for p in own.values())
    if by_keyword and parameter.kind is not Parameter.POSITIONAL_ONLY:
        return functools.partial(train, **{parameter.name: data})
    return functools.partial(_second, train, data)


def _second(train: Callable[..., None], data: Any, config: dict[str, Any]) -> None:
    train(config, data)


def _signature(train: Any) -> inspect.Signature:
    """The parameters that a call has to fit: a wrapper that passes on what it gets has those of its function."""
    own = inspect.signature(train, follow_wrapped=False)
    passes_on = any(parameter.kind in ANY_NUMBER for parameter in own.parameters.values())
    return inspect.signature(train) if passes_on else own


def _data_parameter(signature: inspect.Signature) -> Parameter | None:
    """The parameter after the configuration that is named `data`, else the one that has no default."""
    parameters = list(signature.parameters.values())
    named, required = [p for p in parameters[1:] if p.name == "data"], _required(parameters)
    return named[0] if named else required[0] if len(required) == 1 else None


def _required(parameters: list[Parameter]) -> list[Parameter]:
    """Those after the configuration that a call must give a value."""
    return [p for p in parameters[1:] if p.default is p.empty and p.kind not in ANY_NUMBER]
