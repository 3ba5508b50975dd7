"""A file of requirements: what is passed on to Ray, and what is refused here."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from raysweep.cli import cli
from raysweep.errors import BadInput
from raysweep.submit import requirements

LOCK = """
# made by a tool
six==1.17.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via dateutil
einops>=0.8 ; python_version > "3.8"  # a comment
mine @ git+ssh://git@host/mine.git
"""


def test_a_lock_is_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(LOCK)
    lines = requirements.read(tmp_path / "lock.txt")
    assert lines == (
        "six==1.17.0 --hash=sha256:aa --hash=sha256:bb",
        'einops>=0.8 ; python_version > "3.8"',
        "mine @ git+ssh://git@host/mine.git",
    )
    assert requirements.runtime_env(lines) == {"pip": {"packages": list(lines), "pip_check": False}}
    assert requirements.runtime_env(()) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read .*: name a file such as requirements.txt"),
        ("# nothing\n\n", "it has no requirements: write one a line, such as `einops>=0.8`"),
        ("six\nnot a requirement\n", "`not a requirement` is no requirement: write it like `einops>=0.8`"),
        ("--index-url https://me:secret@x\n", "`--index-url` is an option of pip, which is not passed on"),
        ("--index-url=https://me:secret@x\n", "`--index-url` is an option of pip, which is not passed on"),
        ("https://me:secret@host/mine.whl\n", "`https` is no requirement"),
        ("-r more.txt\n", "`-r more.txt` is an option of pip"),
        ("mine @ https://me:secret@host/mine.whl\n", "`mine` has an address with a password"),
        ("mine @ git+https://secret@host/mine\n", "`mine` has an address with a password"),
    ],
)
def test_what_cannot_be_passed_on_is_refused(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "requirements.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=f"`--requirements {path}`: {told}") as refused:
        requirements.read(path)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("command", ["submit", "rayjob"])
def test_all_that_is_wrong_is_told_and_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.txt").write_text("-e .\n!\n")
    refused = CliRunner().invoke(cli, [command, "asha", "--name", "x", "--requirements", "r.txt"])
    assert refused.exit_code == 2
    assert len(refused.output.splitlines()) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["r.txt"]
