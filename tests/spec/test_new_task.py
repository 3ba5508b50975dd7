"""The task that `raysweep init` writes, and what it never does."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from raysweep.cli import cli
from raysweep.errors import BadInput
from raysweep.spec import new_task


def test_it_is_short_and_says_how_to_run_it(tmp_path: Path) -> None:
    path, ignore = new_task.write(tmp_path, "mypkg.train")
    assert (path, ignore) == (tmp_path / "mypkg" / "train.py", tmp_path / ".rayignore")
    text = path.read_text()
    assert "raysweep run asha --task mypkg.train" in text
    code = [line for line in text.split('"""', 2)[2].splitlines() if line.strip()]
    assert len(code) <= 15
    assert all(len(line) <= 100 for line in text.splitlines())


def test_what_is_there_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", ".rayignore"):
        (tmp_path / name).write_text("mine")
    refused = CliRunner().invoke(cli, ["init"])
    assert refused.exit_code == 2
    assert refused.output == (
        f"error: `train`: {tmp_path}/train.py exists already, and is not overwritten: choose another name\n"
    )
    made = CliRunner().invoke(cli, ["init", "other"])
    assert (made.exit_code, made.output.splitlines()[0]) == (0, "wrote other.py")
    assert "next: raysweep run asha --task other" in made.output
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != "other.py"} == {
        "train.py": "mine",
        ".rayignore": "mine",
    }


@pytest.mark.parametrize("name", ["my-task", "../x", "", "random", "a..b", "tasks/mine", "x.py/"])
def test_a_name_that_python_cannot_import_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="must be the name of a module of yours"):
        new_task.write(tmp_path, name)
    assert list(tmp_path.iterdir()) == []
