"""The strategies and the tasks that there are: the project's own, and the kit's; their files are not imported."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from raysweep import kit


@dataclass(frozen=True)
class Entry:
    """A file of the catalogue.

    Attributes:
        path: the file.
        is_kits: whether it is the kit's, not the project's.
    """

    path: Path
    is_kits: bool

    @property
    def about(self) -> str:
        """The first line of its docstring."""
        module = _parsed(self.path)
        if module is None:
            return "(cannot be read as Python)"
        return (ast.get_docstring(module) or "").partition("\n")[0]


def strategies(project: Path) -> dict[str, Entry]:
    """The strategies by name: of two with the same name, the project's."""
    return _sorted(_of_kit("jobs") | _of_project(project, _files(project / "jobs")))


def tasks(project: Path) -> dict[str, Entry]:
    """The tasks by name: those of tasks/, and the modules in the project's folder that look like one."""
    beside = [path for path in _files(project) if _is_task(path)]
    return _sorted(_of_kit("tasks") | _of_project(project, [*beside, *_files(project / "tasks")]))


def _of_kit(folder: str) -> dict[str, Entry]:
    return {path.stem: Entry(path, True) for path in _files(kit.HOME / folder)}


def _of_project(project: Path, files: Iterable[Path]) -> dict[str, Entry]:
    """A checkout of the kit is a project whose files are the kit's."""
    return {path.stem: Entry(path, project.resolve() == kit.HOME.resolve()) for path in files}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.py") if not path.stem.startswith("_")]


def _sorted(entries: dict[str, Entry]) -> dict[str, Entry]:
    return dict(sorted(entries.items()))


def _is_task(path: Path) -> bool:
    """Whether a module has a search space at its top level."""
    module = _parsed(path)
    assigned = [node for node in module.body if isinstance(node, ast.Assign | ast.AnnAssign)] if module else []
    targets = [each for node in assigned for each in (node.targets if isinstance(node, ast.Assign) else [node.target])]
    return any(isinstance(target, ast.Name) and target.id == "SPACE" for target in targets)


def _parsed(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
