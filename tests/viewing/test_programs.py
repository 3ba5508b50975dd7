"""TensorBoard and optuna-dashboard as processes: on loopback, with a sweep in them, and gone with Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from raysweep.errors import BadInput, RaysweepError
from raysweep.viewing import programs
from tests.ray_project import clean_environment
from tests.viewing.growing import Growing, complete, result, start, suggest
from tests.waiting import until

CONFIG = {"lr": 0.1, "momentum": 0.5, "width": 9, "activation": "relu"}


@pytest.fixture
def growing(tmp_path: Path) -> Growing:
    sweep = Growing(tmp_path / "runs")
    sweep.append(start(), suggest(0, **CONFIG), result(0, 1, 0.5), complete(0), {"type": "end", "status": "ended"})
    return sweep


def fetched(url: str) -> object:
    with closing(urllib.request.urlopen(url, timeout=60)) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("program", "path", "said"),
    [("tensorboard", "data/runs", "00000"), ("optuna-dashboard", "api/studies", "mine")],
)
def test_it_shows_the_sweep_on_loopback_until_ctrl_c(
    growing: Growing, tmp_path: Path, program: str, path: str, said: str
) -> None:
    if shutil.which(program, path=str(Path(sys.executable).parent)) is None:
        pytest.skip(f"no {program}: uv sync installs it")
    command = [sys.executable, "-m", "raysweep", "open", "mine", "--storage", growing.storage, "--with", program]
    environment = clean_environment(tmp_path, TMPDIR=str(tmp_path), AWS_SECRET_ACCESS_KEY="not for the program")
    running = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        line = running.stdout.readline()
        assert line.startswith(f"{program} of mine: http://127.0.0.1:")
        url = line.split()[3]
        until(lambda: said in json.dumps(fetched(url + path)), lambda: fetched(url + path))
        [child] = psutil.Process(running.pid).children()
        assert not [name for name in child.environ() if name.startswith("AWS_")]
        listening = {each.laddr.ip for each in child.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
        assert not child.is_running()
        assert not list(tmp_path.glob("raysweep-*"))
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


def test_a_program_that_is_not_installed_is_named_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="`--with no-such-program`: is not installed here: pip install no-such-program"):
        programs.serve("no-such-program", "mine", str(tmp_path), None, print)


def test_a_program_that_ends_by_itself_is_an_error_with_what_it_said(
    growing: Growing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / "broken"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no display >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    monkeypatch.setitem(programs.PROGRAMS, "broken", programs._optuna_dashboard)
    with pytest.raises(RaysweepError, match="broken has ended with exit code 3: no display"):
        programs.serve("broken", "mine", growing.storage, None, print)


def test_the_files_of_a_folder_are_shown_where_they_are(growing: Growing) -> None:
    there = growing.place.local_path("tensorboard")
    there.mkdir()
    with programs._tensorboard("mine", growing.storage) as (arguments, update):
        assert arguments == ["--logdir", str(there)]
        update()
