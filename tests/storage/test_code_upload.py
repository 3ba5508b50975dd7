"""What of a project travels, and what is said of one that cannot."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import unzip_package

from raysweep import kit, ray_private
from raysweep.errors import BadInput
from raysweep.storage import code_upload, open_storage

MIB = 2**20


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of a user's own."""
    folder = tmp_path / "project"
    fill(
        folder,
        "train.py",
        ".raysweep/token",
        "runs/x",
        "ignored/y",
        ".venv/z",
        ".git/config",
        "src/venv/a",
        "notes.txt",
    )
    (folder / ".rayignore").write_text("ignored/\n")
    (folder / ".gitignore").write_text("*.txt\nstorage/\n")
    return folder


def fill(folder: Path, *names: str, size: int = 1) -> None:
    """Writes files of a size, in bytes."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(size)


def names_of(package: Path) -> set[str]:
    with zipfile.ZipFile(package) as packed:
        return {name for name in packed.namelist() if not name.endswith("/")}


def refused(project: Path) -> tuple[str, ...]:
    with pytest.raises(BadInput) as error, code_upload.packed(project):
        pass
    return error.value.problems


def test_a_project_travels_with_the_kit_and_without_what_is_ignored(project: Path) -> None:
    with code_upload.packed(project) as package:
        names = names_of(package)
    own = {name for name in names if not name.startswith("raysweep/")}
    assert own == {"train.py", ".rayignore", ".gitignore"}
    assert {"raysweep/jobs/asha.py", "raysweep/tasks/digits.py", "raysweep/storage/base.py"} <= names
    page = {f"raysweep/reporting/page.{kind}" for kind in ("html.j2", "css", "js")}
    assert page <= names
    assert all(name.endswith(".py") for name in names - own - page)
    assert not package.exists()


def test_a_job_that_packs_itself_again_sends_the_same(project: Path, tmp_path: Path, monkeypatch) -> None:
    """As for a ticket: the project's .gitignore has `storage/`, and the kit has a room of that name."""
    with code_upload.packed(project) as package:
        names = names_of(package)
        unzip_package(str(package), str(tmp_path / "job"), remove_top_level_directory=False, unlink_zip=False)
    monkeypatch.setattr(kit, "PACKAGE", tmp_path / "job" / "raysweep")
    monkeypatch.setattr(kit, "HOME", tmp_path / "job" / "raysweep")
    with code_upload.packed(tmp_path / "job") as package:
        assert names_of(package) == names


def test_a_checkout_travels_as_it_is(project: Path) -> None:
    fill(project, "jobs/asha.py", "raysweep/__init__.py", "raysweep/own.py")
    with code_upload.packed(project) as package:
        names = names_of(package)
    assert {name for name in names if name.startswith(("raysweep/", "jobs/"))} == {
        "jobs/asha.py", "raysweep/__init__.py", "raysweep/own.py"
    }  # fmt: skip


@pytest.mark.parametrize("files", [("train.py",), ()])
def test_in_a_store_it_is_in_a_folder_that_ray_removes(tmp_path: Path, files: tuple[str, ...]) -> None:
    """So that what is unpacked is the same, also of a project with nothing of its own."""
    place, project = open_storage(str(tmp_path / "store")), tmp_path / "mine"
    project.mkdir()
    fill(project, *files)
    url = code_upload.upload(project, place)
    path = place.local_path(url.removeprefix(f"{place.url}/"))
    assert path
    unzip_package(str(path), str(tmp_path / "job"), remove_top_level_directory=True, unlink_zip=False)
    assert {each.name for each in (tmp_path / "job").iterdir()} == {*files, "raysweep"}


def test_links_that_lead_nowhere_or_into_a_circle_are_named(project: Path) -> None:
    fill(project, "pkg/a.py", "ignored/b")
    for link, target in {
        "up": "..", "nothing": "nowhere", "pkg/me": "me", "pkg/top": project, "ignored/fine": "nowhere", "pkg/b": "a.py"
    }.items():  # fmt: skip
        (project / link).symlink_to(target)
    fix = "remove it, or write"
    assert set(refused(project)) == {
        f"`up` is a link to .., a folder that it is in: {fix} /up into .rayignore",
        f"`nothing` is a link to nowhere, which does not exist: {fix} /nothing into .rayignore",
        f"`pkg/me` is a link to me, which leads back to it: {fix} /pkg/me into .rayignore",
        f"`pkg/top` is a link to {project}, a folder that it is in: {fix} /pkg/top into .rayignore",
    }


def test_two_folders_with_links_to_each_other_are_a_circle(project: Path) -> None:
    for link, other in (("a", "b"), ("b", "a")):
        (project / link).mkdir()
        (project / link / "x").symlink_to(project / other)
    assert all("a folder that it is in" in problem for problem in refused(project))


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """This process may read only what everybody may; root could read all."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders are closed to others
    project.chmod(0o755)
    try:
        fill(project, "open.py", "closed.py", "folder/x")
        (project / "closed.py").chmod(0)
        with nobody():
            assert [each.partition(":")[0] for each in refused(project)] == [
                "`closed.py` cannot be read (Permission denied)"
            ]
        (project / "closed.py").unlink()
        for mode, told in ((0o711, "cannot be read (Permission denied)"), (0, "cannot be entered")):
            (project / "folder").chmod(mode)
            with nobody():
                assert [each.partition(":")[0] for each in refused(project)] == [f"`folder` {told}"]
    finally:
        (project / "folder").chmod(0o755)
        shutil.rmtree(project)


def test_of_what_is_too_large_the_lines_for_rayignore_are_told(project: Path) -> None:
    limit = ray_private.upload_limit()
    assert limit == 100 * MIB
    fill(project, "data/x/1.bin", "data/2.bin", size=30 * MIB)
    fill(project, "pkg/__init__.py", "pkg/small.bin", "ignored/large")
    fill(project, "pkg/model.bin", size=45 * MIB)
    fill(project, "ignored/large", size=200 * MIB)
    (problem,) = refused(project)
    first, *lines = problem.splitlines()
    assert first.startswith(f"{project} has 105 MiB to send, and the Jobs API takes less than 100 MiB: write what")
    assert [line.split() for line in lines] == [["60.0", "MiB", "/data/"]]
    with (project / ".rayignore").open("a") as file:
        file.write(lines[0].split()[-1])
    with code_upload.packed(project) as package:
        assert not [name for name in names_of(package) if name.startswith("data")]


def test_a_store_takes_it_with_a_warning(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_private, "upload_limit", lambda: MIB)
    fill(project, "model.bin", size=MIB)
    code_upload.upload(project, open_storage(str(tmp_path / "store")))
    assert "warning: the code has 1 MiB, and every node downloads it" in capsys.readouterr().err
