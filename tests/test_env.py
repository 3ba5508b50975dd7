"""Every environment variable has its one place in raysweep/env.py."""

import ast
import re
from pathlib import Path

from raysweep import env

PACKAGE = Path(env.__file__).parent
NAMES = {name: value for name, value in vars(env).items() if name.isupper()}
OURS = re.compile(r"RAYSWEEP_[A-Z0-9_]+")


def strings(path):
    """The string constants of a module that are code: not docstrings, not parts of longer texts."""
    return {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}


def modules():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "env.py"]


def test_a_constant_is_called_as_its_variable():
    assert NAMES
    assert all(name == value for name, value in NAMES.items())


def test_no_other_module_names_one():
    written = {(str(path.relative_to(PACKAGE)), text) for path in modules() for text in strings(path) & NAMES.keys()}
    assert written == set()


def test_no_module_reads_or_sets_one_that_is_not_listed():
    calls = re.compile(r"environ(?:\.get|\.pop|\.setdefault)?[\[(]\"(\w+)\"|getenv\(\"(\w+)\"")
    found = {match[0] for path in modules() for match in calls.finditer(path.read_text())}
    assert found == set()


def test_each_is_used():
    text = "\n".join(path.read_text() for path in modules())
    assert [name for name in NAMES if f"env.{name}" not in text] == []


def test_those_of_the_kit_in_docker_and_manifests_are_listed():
    root = PACKAGE.parent
    files = [root / "cluster.yaml", *(root / "docker").glob("*.yaml"), *(root / "k8s").rglob("*.yaml")]
    written = {name for file in files for name in OURS.findall(file.read_text())}
    assert written <= NAMES.keys()
