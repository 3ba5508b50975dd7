"""The documents say what is so: the tree, the flags, the make targets, the strategies, the example of a notebook."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.spec.flags import Flags, flag_name
from raysweep.spec.sweep import strategies

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
REFERENCE, ARCHITECTURE = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("reference", "architecture"))
MOST_LINES = 150  # of the README


def section(name: str, page: str = README) -> str:
    found = re.search(rf"<!-- {name} -->(.*?)<!-- /{name} -->", page, re.DOTALL)
    assert found, name
    return found.group(1)


def words(name: str) -> list[str]:
    return re.findall(r"`([^` ]+)`", section(name, REFERENCE))


def test_every_flag_is_listed_and_no_other() -> None:
    assert words("flags") == [flag_name(field) for field in dataclasses.fields(Flags)]


def test_every_strategy_has_its_row_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section("strategies"), re.MULTILINE)
    assert sorted(rows) == strategies()


def test_every_strategy_was_measured_on_both_tasks() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "strategies.md").read_text(), re.MULTILINE)
    assert rows == strategies() * 2


def test_the_readme_is_short_and_links_to_every_document() -> None:
    assert len(README.splitlines()) <= MOST_LINES
    linked = {Path(link).name for link in re.findall(r"\]\(docs/([^)#]+\.md)\)", README)}
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_every_make_target_is_listed_and_has_a_help_line() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE))
    targets = {word for line in phony for word in line.split()}
    documented = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert targets == documented
    assert {word for word in words("targets") if word != "make"} == targets - {"help"}


def test_every_folder_of_the_tree_exists_and_is_listed() -> None:
    listed = set(re.findall(r"^([\w/]+)/ ", section("tree", ARCHITECTURE), re.MULTILINE))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line and not line.startswith(".")}
    assert {name for name in listed if "/" not in name} == folders
    assert all((ROOT / name).is_dir() for name in listed)


def test_the_chinese_page_says_the_same() -> None:
    chinese = (ROOT / "README.zh-CN.md").read_text()

    def skeleton(page: str) -> dict[str, list[str]]:
        return {
            "headings": re.findall(r"^#+ ", page, re.MULTILINE),
            "examples": re.findall(r"```.*?```", page, re.DOTALL),
            "links": sorted(re.findall(r"\]\((?!README)([^)]+)\)", page)),
            "rows": re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE),
            "tables": [str(line.count("|")) for line in page.splitlines() if line.startswith("|")],
            "code": sorted(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))),
        }

    assert skeleton(chinese) == skeleton(README)


def test_tasks_of_the_tree_are_those_that_exist() -> None:
    line = next(line for line in section("tree", ARCHITECTURE).splitlines() if line.startswith("tasks/"))
    shipped = [path.stem for path in (ROOT / "tasks").glob("[a-z]*.py")]
    assert sorted(re.findall(r"\w+", line.split(":")[1])) == sorted(shipped)


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_files_that_documents_name_exist() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for path in re.findall(
            r"`((?:raysweep|jobs|tasks|tests|benchmarks|docker|k8s)/[\w./-]+\.\w+)`", page.read_text()
        ):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_drawing_of_the_architecture_has_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "raysweep").glob("*/__init__.py")}
    assert set(re.findall(r"\[\"(\w+)/ — ", ARCHITECTURE)) == rooms
    assert set(re.findall(r"^\| `(\w+)/` \|", ARCHITECTURE, re.MULTILINE)) == rooms


def test_a_trials_way_passes_each_module_once() -> None:
    steps = re.findall(r"^\| (\d+) \| `([\w/.]+)` \|", ARCHITECTURE, re.MULTILINE)
    assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))
    assert len({module for _, module in steps}) == len(steps) > 20


def test_the_demo_is_shown_with_its_real_output() -> None:
    shown = section("demo")
    assert re.search(r"best val_accuracy 0\.9[6-9]", shown)
    finished, stopped = re.findall(r"trials: (\d+) finished, (\d+) stopped", shown)[0]
    assert int(finished) + int(stopped) == 20


@pytest.mark.timeout(180)
def test_the_notebook_example_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(import raysweep.*?)```", README, re.DOTALL)
    assert code
    script = tmp_path / "example.py"
    script.write_text(code.group(1) + '\nassert found.best["loss"] < 10, found.best\n')
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/*/trials.csv"))
