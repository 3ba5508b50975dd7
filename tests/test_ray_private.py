"""No file but raysweep/ray_private.py uses a private name of Ray, and that file lists each one that it uses."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from raysweep import ray_private

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("raysweep", "jobs", "tasks") for path in (ROOT / folder).rglob("*.py"))
PATH = re.compile(r"\bray(?:\.[a-zA-Z]\w*)*\.(_\w+)")  # as importlib and mock take it
DOCUMENTED = {"_temp_dir"}  # https://docs.ray.io/en/latest/ray-core/api/doc/ray.init.html
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in OF_NAMED_TUPLES


def of_ray(module: str | None) -> bool:
    return (module or "").split(".")[0] == "ray"


def root(node: ast.AST) -> str | None:
    """`ray` of `ray.tune.run`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def own_names(tree: ast.AST) -> Iterator[str]:
    """Private names that a source defines, and attributes of `self` that it sets or reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and is_private(node.name):
            yield node.name
        elif isinstance(node, ast.Attribute) and root(node) == "self" and is_private(node.attr):
            yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_private(node.target.id):
            yield node.target.id


@cache
def names_of_class(of: Any) -> set[str]:
    """The private names of a class of Ray's, and of those of Ray's that it comes from."""
    sources = [inspect.getsource(base) for base in inspect.getmro(of) if of_ray(base.__module__)]
    return {name for source in sources for name in own_names(ast.parse(source))}


class Uses(ast.NodeVisitor):
    """The private names of Ray that a source uses, whether it imports, reads, sets, passes or overrides them."""

    def __init__(self, source: str) -> None:
        self.found: set[str] = set()
        self._rays: set[str] = set()  # names that are bound by an import from Ray, or from elsewhere
        self._others: set[str] = set()
        self._from: dict[str, tuple[str, str]] = {}  # where such a name comes from
        self._hidden: set[str] = set()  # those that are private modules
        tree = ast.parse(source)
        self._own = set(own_names(tree))
        self.visit(tree)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            rays = of_ray(alias.name)
            (self._rays if rays else self._others).add(alias.asname or alias.name.split(".")[0])
            self.found |= {part for part in alias.name.split(".") if rays and is_private(part)}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        hidden = any(map(is_private, module.split(".")))
        for alias in node.names:
            name = alias.asname or alias.name
            self._from[name] = module, alias.name
            if not of_ray(module):
                self._others.add(name)
                continue
            self._rays.add(name)
            if hidden and isinstance(_imported(module, alias.name), ModuleType):
                self._hidden.add(name)
            elif hidden or is_private(alias.name):
                self.found.add(alias.name)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        base = node.value.id if isinstance(node.value, ast.Name) else None
        ours = base in {"self", "cls", *self._others} or (node.attr in self._own and root(node) not in self._rays)
        if base in self._hidden or (is_private(node.attr) and not ours):
            self.found.add(node.attr)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if root(node.func) in self._rays:
            self.found |= {word.arg for word in node.keywords if word.arg and is_private(word.arg)} - DOCUMENTED
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr", "hasattr", "delattr"):
            of, name = node.args[:2]
            text = str(name.value) if isinstance(name, ast.Constant) else ""
            self.found |= {text} if is_private(text) and root(of) != "self" else set()
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and "\n" not in node.value:
            self.found |= set(PATH.findall(node.value))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        named = [base.id for base in node.bases if isinstance(base, ast.Name)]
        bases = [_imported(*self._from[name]) for name in named if name in self._from]
        rays = {name for base in bases if isinstance(base, type) for name in names_of_class(base)}
        self.found |= set(own_names(node)) & rays
        self.generic_visit(node)


def _imported(module: str, name: str) -> Any:
    """What an import gives; None for what is not there."""
    try:
        found = getattr(importlib.import_module(module), name, None)
        return importlib.import_module(f"{module}.{name}") if found is None else found
    except ImportError:
        return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_uses_no_private_name_of_ray(path):
    assert path.name == "ray_private.py" or Uses(path.read_text()).found == set()


def test_the_one_that_does_lists_exactly_those_that_it_uses():
    listed = re.findall(r"^(\w+(?:, \w+)*) {2,}\S", str(ray_private.__doc__), re.MULTILINE)
    names = [name for line in listed for name in line.split(", ")]
    source = inspect.getsource(ray_private)
    called_by_ray = {name for name in own_names(ast.parse(source)) if f".{name}(" not in source}
    assert sorted(names) == sorted(Uses(source).found | called_by_ray)


ONE_OF_RAYS = "from ray.tune.schedulers import HyperBandScheduler as Rays\nclass Mine(Rays):\n "


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from ray.tune.execution.tune_controller import _y", "_y"),
        ("import ray._private.z", "_private"),
        ("from ray import _raylet", "_raylet"),
        ("from ray._private import ray_constants\nray_constants.LOGGER_LEVEL", "LOGGER_LEVEL"),
        ("from ray._raylet import GcsClient as Client", "GcsClient"),
        ("import ray\nray._private.worker.global_worker", "_private"),
        ("import ray\nray.init(_system_config={})", "_system_config"),
        ("from ray import tune\ntune.Tuner._from_here", "_from_here"),
        ("trial.run_metadata.checkpoint_manager._abc = 1", "_abc"),
        ("trials[0]._abc", "_abc"),
        ("getattr(trial, '_abc')", "_abc"),
        ("mock.patch('ray._private.worker')", "_private"),
        (f"{ONE_OF_RAYS}def _process_bracket(self): ...", "_process_bracket"),
        (f"{ONE_OF_RAYS}def f(self): self._metric = 1", "_metric"),
    ],
)
def test_it_finds_a_private_name(source, name):
    assert Uses(source).found == {name}


@pytest.mark.parametrize(
    "source",
    [
        "import ray\nray.init(address='local', _temp_dir='/tmp/x')\nray.__version__",
        "import subprocess\nsubprocess.run(['-m', 'ray.scripts.scripts', 'start'])",
        "class Mine:\n _kept: int\n def _f(self, other): return self._kept + other._kept",
        "import os\nfrom raysweep.x import _y\nos._exit(_y)",
        f"{ONE_OF_RAYS}def f(self): return self._of_mine",
    ],
)
def test_it_finds_nothing_else(source):
    assert Uses(source).found == set()
