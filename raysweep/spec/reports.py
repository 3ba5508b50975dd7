"""What a training function reports, read from its source, so that a wrong metric is refused before the start.

Only calls of `raysweep.report` and of Ray's own count, whatever they are called there: names are looked up where the
function would, in its module and in what it encloses. The user's other functions that it names are read, too. What
cannot be known is left open: a right function must never be refused.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import site
import sys
import sysconfig
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from raysweep.spec.function import is_trainable, plain, saves, unwrapped
from raysweep.values import NOT_METRICS

OWN = ("raysweep", "ray")  # the packages whose `report` is one
OF_RAY = ("ray.tune", "ray.train", "ray.air")
LIBRARIES = (sysconfig.get_path("stdlib"), *site.getsitepackages(), site.getusersitepackages())
UNKNOWN = object()


@dataclass(frozen=True)
class Reports:
    """What a training function reports.

    Attributes:
        metrics: the keys of its `report({...})` literals; None when they cannot be read.
        state: whether some `report` call passes `state=` or `checkpoint=`; None when that cannot be known.
        of_ray: whether it is code for plain Ray Tune: it names a part of ray.tune or ray.train.
    """

    metrics: tuple[str, ...] | None = None
    state: bool | None = None
    of_ray: bool = False


def reports(train: Any) -> Reports:
    """Reads what a training function reports, without running it."""
    if is_trainable(train):
        return Reports(None, saves(train), True)
    reader = _Reader(of_ray=_is_of_ray(plain(train)))
    reader.follow(unwrapped(train))
    keys = [key for call in reader.calls for key in _literal_keys(call) if not reader.of_ray or key not in NOT_METRICS]
    known = bool(reader.calls) and not reader.open
    state = any(_passes_state(call) for call in reader.calls)
    metrics = tuple(dict.fromkeys(str(key) for key in keys)) if known and None not in keys else None
    return Reports(metrics, state if known or state else None, reader.of_ray)


def _literal_keys(call: ast.Call) -> list[str | None]:
    named = (keyword.value for keyword in call.keywords if keyword.arg == "metrics")
    metrics = call.args[0] if call.args else next(named, None)
    if not isinstance(metrics, ast.Dict):
        return [None]
    return [k.value if isinstance(k, ast.Constant) and isinstance(k.value, str) else None for k in metrics.keys]


def _passes_state(call: ast.Call) -> bool:
    return len(call.args) > 1 or any(keyword.arg in ("state", "checkpoint", None) for keyword in call.keywords)


@dataclass
class _Reader:
    """The report calls of a function and of all that it names.

    Attributes:
        calls: those that were found.
        open: whether there may be others.
        of_ray: whether something of Ray Tune or Ray Train was named.
    """

    calls: list[ast.Call] = field(default_factory=list)
    open: bool = False
    of_ray: bool = False
    _seen: set[int] = field(default_factory=set)

    def follow(self, found: Any) -> None:
        """Reads a function, the methods of a class, or those of an object; what is in a library calls no report."""
        if isinstance(found, functools.partial):
            for part in (found.func, *found.args, *found.keywords.values()):
                self.follow(part)
        elif _is_report(found):  # handed on as a value: who calls it, and with what, is not known
            self.open = True
        elif not inspect.ismodule(found) and _is_users(found):
            if inspect.isroutine(found):
                self._read(_function(found), getattr(found, "__self__", UNKNOWN))
            else:
                of = found if inspect.isclass(found) else type(found)
                for method in filter(inspect.isfunction, map(_function, vars(of).values())):
                    self._read(method, UNKNOWN if found is of else found)

    def _read(self, function: Any, owner: Any) -> None:
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        try:
            # Of its own code: the source of a decorated function is otherwise that of the one in it.
            tree = ast.parse(textwrap.dedent(inspect.getsource(function.__code__)))
            names = _Names(function, owner, tree)
        except (AttributeError, OSError, SyntaxError, ValueError):  # compiled, generated, a lambda amid a line
            self.open |= _may_report(getattr(function, "__code__", None))
            return
        self.of_ray |= any(module.startswith(OF_RAY) for module in _imports(tree))
        called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        owners = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Name | ast.Attribute) or not isinstance(node.ctx, ast.Load):
                continue
            found, call = names.value(node), called.get(id(node))
            self.of_ray |= _is_of_ray(found)
            if found is UNKNOWN:
                self.open |= _word(node) == "report"
            elif call is not None and _is_report(found):
                self.calls.append(call)
            elif id(node) not in owners:  # of an object only what is taken from it
                self.follow(found)


def _may_report(code: types.CodeType | None) -> bool:
    """Whether the code of a function without source, or of one in it, has the word."""
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)] if code else []
    return code is None or "report" in code.co_names + code.co_freevars or any(map(_may_report, inner))


def _word(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _is_report(found: Any) -> bool:
    module = getattr(found, "__module__", None) or ""
    return inspect.isfunction(found) and found.__name__ == "report" and module.partition(".")[0] in OWN


def _is_of_ray(found: Any) -> bool:
    """Whether something is a part of Ray Tune or Ray Train: a module, a function or a class."""
    module = found.__name__ if inspect.ismodule(found) else getattr(found, "__module__", None)
    named = inspect.ismodule(found) or inspect.isroutine(found) or inspect.isclass(found)
    return named and str(module).startswith(OF_RAY)


def _is_users(found: Any) -> bool:
    """Whether something is of the user's own code: not of Python, of a library or of this package."""
    of = found if inspect.isroutine(found) or inspect.isclass(found) else type(found)
    module = str(getattr(of, "__module__", None))
    top, path = module.partition(".")[0], getattr(sys.modules.get(module), "__file__", None)
    if module not in sys.modules or top in OWN or top in sys.stdlib_module_names:
        return False
    return path is None or not path.startswith(LIBRARIES)


def _function(member: Any) -> Any:
    """What is behind a method, of any kind, or a cache."""
    found = getattr(member, "__func__", member)
    return found if hasattr(found, "__code__") else getattr(found, "__wrapped__", found)


class _Names:
    """What the names in a function's source stand for.

    Args:
        function: the function.
        owner: the object that it is a method of.
        tree: its source.
    """

    def __init__(self, function: Any, owner: Any, tree: ast.AST) -> None:
        local = {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        }
        local |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        local |= {node.name for node in ast.walk(tree) if isinstance(node, inner)}
        around = inspect.getclosurevars(function).nonlocals
        self._known: dict[str, Any] = {**vars(builtins), **function.__globals__, **around}
        self._known |= dict.fromkeys(local, UNKNOWN) | dict(_imported(tree))
        if owner is not UNKNOWN:
            self._known |= dict.fromkeys(function.__code__.co_varnames[:1], owner)

    def value(self, node: ast.AST) -> Any:
        """What a name, or an attribute of one, stands for; nothing of the user's runs to find it."""
        if isinstance(node, ast.Name):
            return self._known.get(node.id, UNKNOWN)
        if not isinstance(node, ast.Attribute) or (base := self.value(node.value)) is UNKNOWN:
            return UNKNOWN
        if isinstance(base, types.ModuleType):
            return getattr(base, node.attr, UNKNOWN)
        found = inspect.getattr_static(base, node.attr, UNKNOWN)
        own = inspect.isclass(base) or node.attr in getattr(base, "__dict__", ())
        return _function(found) if own or not inspect.isfunction(found) else types.MethodType(found, base)


def _imports(tree: ast.AST) -> Iterator[str]:
    """The modules, and what is taken from them, that a function imports itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            yield from (start + alias.name for alias in node.names)


def _imported(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """The names that a function imports itself; a module that nobody has imported yet is not imported for this."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                path = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or path, sys.modules.get(path, UNKNOWN)
        elif isinstance(node, ast.ImportFrom):
            module = UNKNOWN if node.level else sys.modules.get(node.module or "", UNKNOWN)
            for alias in node.names:
                yield alias.asname or alias.name, getattr(module, alias.name, UNKNOWN)
