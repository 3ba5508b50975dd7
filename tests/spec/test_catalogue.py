"""What there is: the kit's strategies and tasks, and the project's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.spec import catalogue
from raysweep.spec.sweep import strategy

ROOT = Path(__file__).parents[2]
MINE = '''"""Mine: ASHA again."""

from dataclasses import dataclass

from ray import tune

import raysweep


@dataclass(frozen=True)
class Knobs:
    """Of mine."""

    depth: int = raysweep.knob(3, "How deep.", ge=1)


def tune_config(sweep, knobs):
    return tune.TuneConfig()
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {
        "jobs/mine.py": MINE,
        "jobs/asha.py": MINE,
        "jobs/_helper.py": "",
        "tasks/_data.py": "",
        "tasks/own.py": '"""Own."""',
        "train.py": "SPACE: dict = {}",
        "setup.py": "import somewhere",
        "broken.py": "def",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_of_two_strategies_of_one_name_the_projects_is_found(project: Path) -> None:
    found = catalogue.strategies(project)
    assert (found["asha"].is_kits, found["mine"].is_kits, found["tpe"].is_kits) == (False, False, True)
    assert found["mine"].about == "Mine: ASHA again."
    assert list(found) == sorted(found)
    assert not [name for name in found if name.startswith("_")]


def test_a_module_of_the_project_with_a_space_is_a_task(project: Path) -> None:
    found = catalogue.tasks(project)
    assert {name for name in found if not found[name].is_kits} == {"own", "train"}
    assert {"digits", "quadratic"} <= set(found)
    assert not [name for name in found if name.startswith("_")]


def test_in_a_checkout_all_are_the_kits() -> None:
    assert all(entry.is_kits for find in (catalogue.strategies, catalogue.tasks) for entry in find(ROOT).values())


def test_a_projects_own_strategy_is_loaded_with_its_knobs(project: Path) -> None:
    mine = strategy("mine")
    assert (mine.name, mine.doc, mine.knobs().depth) == ("mine", "Mine: ASHA again.", 3)
    assert strategy("asha").doc == "Mine: ASHA again."
    assert strategy("tpe").tune_config.__module__ == "jobs.tpe"
