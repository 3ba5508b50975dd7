"""One real cluster for all tests that need one: `pytest_plugins = ["tests.ray_cluster"]`, fixture `local_cluster`.

Import nothing from here (pytest wants to load a plugin itself): `Project` is in tests/ray_project.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.ray_project import ROOT, Project, make_project


@pytest.fixture(scope="session")
def local_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose cluster is up: real `up`, free ports, a folder of its own; taken down at the end."""
    project = make_project(tmp_path_factory.mktemp("project"))
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, project.folder)
    with project.running():
        yield project
