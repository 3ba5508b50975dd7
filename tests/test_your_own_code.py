"""The examples of docs/your-own-code.md are right: each command is read by the parser that a user meets."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

import raysweep
from raysweep.cli import cli
from raysweep.spec import script_command, space_file
from raysweep.spec.task import of_module

PAGE = (Path(__file__).parents[1] / "docs" / "your-own-code.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_command_fits_the_space(tmp_path):
    (tmp_path / "space.yaml").write_text(blocks("yaml")[0])
    line = next(block for block in blocks("console") if "wrap" in block).replace("\\\n", " ")
    words = shlex.split(line)
    space = space_file.read(tmp_path / "space.yaml")
    assert script_command.problems(words[words.index("--") + 1 :], space) == []


def test_every_command_exists_with_its_flags():
    lines = [line.partition("#")[0] for block in blocks("console") for line in block.replace("\\\n", " ").splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("raysweep ")]
    assert len(commands) >= 6
    for words in commands:
        group = ["cluster", words[1]] if words[0] == "cluster" else [words[0]]
        shown = CliRunner().invoke(cli, [*group, "--help"], prog_name="raysweep")
        assert shown.exit_code == 0, shown.output


def test_the_task_of_a_script_is_one(tmp_path):
    text = next(block for block in blocks("python") if "raysweep.script(" in block)
    module = type(raysweep)("sweep_of_a_script")
    module.__file__ = str(tmp_path / "sweep_of_a_script.py")
    exec(text, vars(module))
    task = of_module(module, "sweep_of_a_script")
    assert script_command.problems(task.train.command, task.space) == []
