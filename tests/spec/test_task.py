"""Tasks: how a module becomes one, and what is said when it does not."""

import sys
from types import ModuleType

import numpy as np
import pytest

from raysweep.errors import BadInput
from raysweep.spec.task import Task, load, of_module

WHOLE = """
import raysweep
SPACE = {"lr": 0.1}
METRIC, MODE = "loss", "min"
MAX_ITERATIONS = 7
MUTABLE = ("lr",)
def load_data(root):
    return root
def train(config, data):
    raysweep.report({"loss": 1.0})
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder of a user's own; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("mypkg", "svm"):
            del sys.modules[name]


def test_a_name_without_a_dot_is_a_file_of_tasks():
    task = load("quadratic")
    assert (task.name, task.metric, task.mode, task.max_iterations) == ("quadratic", "loss", "min", 10)
    assert task.train.__module__ == "tasks.quadratic"
    assert (task.takes_data, task.load_data, task.mutable) == (False, None, ("x", "y"))


def test_a_dotted_name_is_a_module_of_the_working_folder(folder):
    (folder / "mypkg").mkdir()
    (folder / "mypkg" / "train.py").write_text(WHOLE)
    task = load("mypkg.train")
    assert (task.name, task.metric, task.max_iterations, task.mutable) == ("mypkg.train", "loss", 7, ("lr",))
    assert task.takes_data
    assert task.load_data("there") == "there"


def test_a_module_of_the_working_folder_needs_no_package(folder):
    (folder / "mypkg.py").write_text(WHOLE)
    assert load("mypkg").max_iterations == 7


def test_a_module_may_want_a_process_for_each_trial(folder):
    (folder / "mypkg.py").write_text(WHOLE + "REUSE_ACTORS = False\n")
    assert not load("mypkg").reuse_actors
    assert load("quadratic").reuse_actors


@pytest.mark.parametrize(
    ("text", "told"), [("import nowhere", "nowhere"), ("def (", "SyntaxError"), ("1 / 0", "line 1")]
)
def test_a_module_that_cannot_be_imported_says_why(folder, text, told):
    (folder / "mypkg.py").write_text(text)
    with pytest.raises(BadInput, match=f"`--task mypkg`: it cannot be imported.*{told}"):
        load("mypkg")


def test_a_projects_own_task_goes_before_that_of_the_kit(folder):
    assert load("svm").train.__module__ == "tasks.svm"
    (folder / "svm.py").write_text(WHOLE)
    assert load("svm").train.__module__ == "svm"
    assert load("tasks.svm").train.__module__ == "tasks.svm"


def test_a_library_of_the_same_name_goes_after_the_kits_task(folder, monkeypatch):
    (folder / "site").mkdir()
    (folder / "site" / "quadratic.py").write_text(WHOLE)
    monkeypatch.syspath_prepend(folder / "site")
    assert load("quadratic").train.__module__ == "tasks.quadratic"


def test_a_folder_of_tasks_that_another_package_hides_is_told_with_the_fix(folder):
    (folder / "tasks").mkdir()
    (folder / "tasks" / "mine.py").write_text(WHOLE)
    with pytest.raises(BadInput, match=r"`--task mine`: tasks/mine\.py is hidden by .* tasks/__init__\.py"):
        load("mine")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digit", " (did you mean `digits`?)"),
        ("zzz", ""),
        ("mypkg.trian", ""),
        ("tasks/digits.py", " (did you mean `digits`?)"),
        ("./tasks/digits.py", " (did you mean `digits`?)"),
        ("..digits", " (did you mean `digits`?)"),
        (".digits", " (did you mean `digits`?)"),
        ("tasks..digits", " (did you mean `digits`?)"),
        ("digits.", " (did you mean `digits`?)"),
        (".", ""),
        ("", ""),
    ],
)
def test_what_is_no_module_is_told_with_the_nearest_task(folder, name, told):
    with pytest.raises(BadInput) as error:
        load(name)
    assert str(error.value) == f"`--task {name}`: there is no such module, in tasks/ or elsewhere{told}"


def test_every_missing_part_is_named_at_once():
    module = ModuleType("mine")
    module.__file__ = "mine.py"
    module.SPACE, module.MODE = {}, "max"
    with pytest.raises(BadInput, match=r"`--task mine`: mine\.py defines no METRIC, MAX_ITERATIONS, train;"):
        of_module(module, "mine")


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("mode", "best", "`MODE best`: must be 'max' or 'min'"),
        ("max_iterations", 0, "`MAX_ITERATIONS 0`: must be at least 1"),
        ("max_iterations", 2.5, "`MAX_ITERATIONS 2.5`: must be a whole number"),
        ("max_iterations", True, "`MAX_ITERATIONS True`: must be a whole number"),
        ("metric", 5, "`METRIC 5`: must be text"),
        ("space", [1], "`SPACE [1]`: must be a dictionary"),
        ("mutable", "lr", "`MUTABLE lr`: must be a tuple"),
        ("reuse_actors", "sometimes", "`REUSE_ACTORS sometimes`: must be True or False"),
    ],
)
def test_what_a_task_says_is_checked(part, value, told):
    said = {"space": {}, "metric": "loss", "mode": "max", "max_iterations": 3} | {part: value}
    with pytest.raises(BadInput) as caught:
        Task("mine", lambda config: None, **said)
    assert str(caught.value) == f"`--task mine`: {told}"


def test_all_that_is_wrong_with_a_task_is_told_at_once():
    with pytest.raises(BadInput) as caught:
        Task("mine", lambda config: None, {}, "loss", "best", 0)
    assert len(caught.value.problems) == 2


def test_numbers_of_numpy_and_a_list_will_do():
    assert Task("mine", lambda config: None, {}, "loss", "min", np.int64(3), mutable=["lr"]).max_iterations == 3
