"""The command line without a cluster: help, the catalogue, errors and how fast they come."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.filesize import decimal

from raysweep.cli import cli
from raysweep.history.journal import Journal
from raysweep.storage import open_storage
from tests.ray_project import free_ports
from tests.reporting.sweeps import simulated

VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAYSWEEP_STORAGE")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project without a cluster."""
    for package, name, text in (
        ("jobs", "asha", '"""ASHA: stops early.\n\nMore."""\nraise SystemExit("imported")\n'),
        ("jobs", "grid", "x = 1\n"),
        ("jobs", "broken", "def\n"),
        ("jobs", "__init__", ""),
        ("tasks", "digits", '"""Digits: a small net."""\n'),
    ):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*found, id=" ".join(("raysweep", *found[0]))) for found in commands(cli)]
)
def test_every_command_explains_itself(path, command):
    shown = CliRunner().invoke(cli, [*path, "--help"])
    assert shown.exit_code == 0
    assert command.help
    assert all(p.help for p in command.params if isinstance(p, click.Option))


@pytest.mark.parametrize("arguments", [["--help"], ["list"]])
def test_answers_at_once_and_without_ray(folder, arguments):
    code = f"import sys; from raysweep.cli import cli; cli({arguments}, standalone_mode=False)"
    check = code + "; sys.exit(bool({'ray', 'torch', 'pandas', 'numpy', 'pydantic'} & set(sys.modules)))"
    before = os.times()
    assert subprocess.run([sys.executable, "-c", check], capture_output=True).returncode == 0
    after = os.times()
    # Of the processor, since a busy machine may take longer.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1


def test_list_reads_docstrings_without_importing(folder):
    shown = CliRunner().invoke(cli, ["list"])
    assert shown.exit_code == 0
    lines = [line.split(maxsplit=2) for line in shown.output.splitlines()]
    assert ["asha", "yours", "ASHA: stops early."] in lines
    assert ["broken", "yours", "(cannot be read as Python)"] in lines
    assert ["grid", "yours"] in lines
    assert ["digits", "yours", "Digits: a small net."] in lines
    assert {line[0] for line in lines if "yours" not in line} >= {"tpe", "pbt", "mnist"}


def test_check_is_the_job_here_with_a_dry_run(folder):
    (folder / "jobs" / "asha.py").write_text('"""ASHA."""\nimport sys\nprint(*sys.argv[1:])\nsys.exit(7)\n')
    words = ("asha", "--task", "digits", "--samples", "3", "--data", "d", "--name", "n")
    done = subprocess.run([sys.executable, "-m", "raysweep", "check", *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"--data {folder}/d --task digits --name n --samples 3 --dry-run\n"


def test_unknown_strategy_names_the_nearest(folder):
    refused = CliRunner().invoke(cli, ["submit", "ahsa", "--samples", "3"])
    assert refused.exit_code == 2
    told = "error: there is no strategy `ahsa` (did you mean `asha`?): choose one of asha, async_hyperband, broken, cma"
    assert refused.output.startswith(told)


@pytest.mark.parametrize("command", ["submit", "rayjob"])
@pytest.mark.parametrize("name", ["../x", "", "n" * 201])
def test_a_job_is_not_sent_with_a_name_that_is_no_folder(folder, command, name):
    refused = CliRunner().invoke(cli, [command, "ahsa", "--name", name])
    assert refused.exit_code == 2
    first, second = refused.output.splitlines()
    assert first.startswith("error: there is no strategy `ahsa`")
    assert second.startswith(f"error: `--name {name[:20]}")


@pytest.mark.parametrize(
    "arguments", [["submit", "asha"], ["status"], ["logs", "x"], ["stop", "x"]], ids=lambda words: words[0]
)
def test_no_cluster_names_the_fix(folder, arguments):
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code == 2
    assert refused.output.startswith("error: no cluster is running: start one with `raysweep cluster up`")
    assert len(refused.output.splitlines()) == 1


def test_silent_address(folder, monkeypatch):
    (port,) = free_ports(1)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{port}")
    failed = CliRunner().invoke(cli, ["status"])
    assert failed.exit_code == 1
    assert f"no Ray cluster answers at http://127.0.0.1:{port}" in failed.output


def test_address_of_ray_init_is_not_a_dashboard(folder, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    refused = CliRunner().invoke(cli, ["status"])
    assert refused.exit_code == 2
    assert "not the URL of a dashboard" in refused.output


def test_each_problem_has_its_own_line(folder):
    refused = CliRunner().invoke(cli, ["cluster", "up", "--port", "99999", "--dashboard-port", "99999"])
    assert refused.exit_code == 2
    assert all(line.startswith("error: ") for line in refused.output.splitlines())
    assert len(refused.output.splitlines()) > 1


def test_cluster_status_and_down_without_one(folder):
    assert CliRunner().invoke(cli, ["cluster", "status"]).exit_code == 1
    assert CliRunner().invoke(cli, ["cluster", "down"]).exit_code == 0
    assert not (folder / ".raysweep").exists()


@pytest.mark.parametrize(
    "arguments",
    [["cluster", "scale", "2"], ["cluster", "down", "--volumes"], ["cluster", "logs"], ["results"], ["list"],
     ["status"], ["dashboard"], ["submit", "asha"], ["rayjob", "asha", "--name", "x"]],
    ids=" ".join,
)  # fmt: skip
def test_a_command_that_starts_nothing_leaves_no_folder(folder, arguments):
    CliRunner().invoke(cli, arguments)
    assert not (folder / ".raysweep").exists()


def test_inside_of_the_project_the_same_is_found(folder, sweep, monkeypatch):
    (folder / ".rayignore").touch()
    monkeypatch.setenv("HOME", "/nowhere/at/all")
    (folder / "notes").mkdir()
    monkeypatch.chdir(folder / "notes")
    assert "\nmine " in CliRunner().invoke(cli, ["results"]).output
    assert "ASHA: stops early." in CliRunner().invoke(cli, ["list"]).output
    assert CliRunner().invoke(cli, ["results", "--storage", "."]).output == "no sweeps in .\n"


@pytest.fixture
def sweep(folder):
    """A stored sweep of two trials; returns its folder."""
    spec = {"name": "mine", "strategy": "asha", "task": "digits", "metrics": ["loss"], "modes": ["min"], "seed": 0}
    spec |= {"samples": 2, "max_iterations": 1, "knobs": {}, "space": {}}
    place = open_storage(str(folder / "runs" / "mine"))
    place.put("sweep.json", json.dumps(spec).encode())
    log = Journal(place, 1)
    for trial in ("00000", "00001"):
        log.append("suggest", trial=trial, config={"lr": 1})
        log.append("result", trial=trial, iteration=1, metrics={"loss": int(trial)}, checkpoint=None, node="n")
    log.close()
    return folder / "runs" / "mine"


def results_of(sweep):
    return CliRunner().invoke(cli, ["results", "mine", "--storage", str(sweep.parent)])


def test_results_of_an_intact_sweep(sweep):
    shown = results_of(sweep)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "best loss 0: trial 00000" in shown.stdout


def test_results_of_a_damaged_sweep_are_shown_and_the_damage_is_an_error(sweep):
    [segment] = (sweep / "journal").iterdir()
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([lines[0], b"?\n", *lines[2:]]))
    shown = results_of(sweep)
    assert shown.exit_code == 1
    assert "best loss 1: trial 00001" in shown.stdout
    assert shown.stderr == (
        f"error: {segment}: line 2 is not as written, event 2 is lost: restore it from a backup, or go on without what"
        " is lost: `--resume auto --repair`\n"
    )


@pytest.mark.parametrize("content", [None, "{"])
def test_results_without_a_sweep_json_name_the_file(content, sweep):
    (sweep / "sweep.json").unlink()
    if content:
        (sweep / "sweep.json").write_text(content)
    shown = results_of(sweep)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.startswith(f"error: {sweep}/sweep.json is ")
    assert shown.stderr.endswith("`--resume auto --repair`\n")


def test_results_of_a_sweep_without_trials_say_so(sweep):
    [segment] = (sweep / "journal").iterdir()
    segment.write_bytes(b"")
    shown = results_of(sweep)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.startswith("trials: none was begun yet\n")


def test_the_list_of_sweeps_has_a_row_each(sweep):
    shown = CliRunner().invoke(cli, ["results", "--storage", str(sweep.parent)])
    size = sum(path.stat().st_size for path in sweep.rglob("*") if path.is_file())
    header, row = (re.split(r"  +", line) for line in shown.stdout.splitlines())
    assert header == ["SWEEP", "STRATEGY", "TASK", "TRIALS", "BEST", "WHEN (UTC)", "SIZE"]
    assert row[:5] == ["mine", "asha", "digits", "0 of 2", "loss 0"]
    assert datetime.strptime(row[5], "%Y-%m-%d %H:%M")
    assert row[6] == decimal(size)


def test_the_list_of_sweeps_leaves_foreign_files_and_folders_out(sweep):
    (sweep.parent / "notes").mkdir()
    for where in (sweep.parent, sweep.parent / "notes"):
        (where / ".DS_Store").write_bytes(b"\0")
    shown = CliRunner().invoke(cli, ["results", "--storage", str(sweep.parent)])
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.output.splitlines()] == ["SWEEP", "mine"]


@pytest.fixture
def printed(folder):
    """A storage with a sweep of two trials, of which the first has printed something."""
    spec = {"name": "first", "strategy": "grid", "task": "t", "metrics": ["loss"], "modes": ["min"], "seed": 0}
    spec |= {"samples": 2, "max_iterations": 1, "knobs": {}, "space": {}}
    place = open_storage(str(folder / "runs" / "first"))
    place.put("sweep.json", json.dumps(spec).encode())
    journal = Journal(place, 1)
    journal.append("start", term=1, resumed=False)
    for trial in ("00000", "00001"):
        journal.append("suggest", trial=trial, config={})
        journal.append("complete", trial=trial, status="finished")
    journal.close()
    place.put("logs/00000.txt", b"one\ntwo")
    return str(folder / "runs")


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["first", "--trial", "0"], 0, "one\ntwo\n"),
        (["first", "--trial", "00000"], 0, "one\ntwo\n"),
        (["first", "--trial", "0", "--follow"], 0, "one\ntwo\n"),
        (["first", "--trial", "1"], 0, "trial 00001 has printed nothing so far\n"),
        (["first", "--trial", "2"], 2, "error: `--trial 2`: the sweep first has the trials 0 to 1: give one of them\n"),
        (["first", "--trial", "a"], 2, "error: `--trial a`: must be the number of a trial, such as 3 or 00003\n"),
        (["frist", "--trial", "0"], 2, "error: there is no sweep `frist` in {} (did you mean `first`?): list all"),
    ],
)
def test_logs_of_a_trial(printed, arguments, code, shown):
    done = CliRunner().invoke(cli, ["logs", *arguments, "--storage", printed])
    assert (done.exit_code, done.output[: len(shown.format(printed))]) == (code, shown.format(printed))


def test_the_log_of_a_job_is_read_from_the_storage(printed):
    open_storage(printed).put("first/logs/asha-first-5f0c2e/20260101T000000.000000000000.log", b"said\nexit code 3\n")
    done = CliRunner().invoke(cli, ["logs", "first", "--storage", printed, "--follow"])
    assert (done.exit_code, done.stdout) == (3, "said\nexit code 3\n")
    none = CliRunner().invoke(cli, ["logs", "frist", "--storage", printed])
    assert none.exit_code == 2
    assert none.output.startswith(f"error: there is no log of a job `frist` in {printed}: ")


@pytest.fixture
def stored(tmp_path):
    """A storage with two sweeps that have ended."""
    for name in ("first", "second"):
        simulated("random_search", 4, 2, storage=open_storage(str(tmp_path / "store" / name)), sweep_name=name)
    return str(tmp_path / "store")


def test_report_writes_the_page_beside_the_results(folder, stored):
    done = CliRunner().invoke(cli, ["report", "first", "--storage", stored])
    assert (done.exit_code, done.output) == (0, f"wrote {stored}/first/report.html\n")
    assert open_storage(stored).get("first/report.html").startswith(b"<!doctype html>")


def test_report_of_several_sweeps_is_one_page_here(folder, stored):
    done = CliRunner().invoke(cli, ["report", f"{stored}/first", f"{stored}/second"])
    assert (done.exit_code, done.output) == (0, f"wrote {Path.cwd()}/report.html\n")
    assert b"<h1>2 sweeps</h1>" in Path("report.html").read_bytes()


def test_report_writes_where_it_is_told_and_nowhere_else(folder, stored):
    done = CliRunner().invoke(cli, ["report", "first", "--storage", stored, "--output", "page.html"])
    assert done.exit_code == 0
    assert Path("page.html").is_file()
    assert not open_storage(stored).exists("first/report.html")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frist"], "there is no sweep `frist`"),
        (["first", "--output", "no/page.html"], "`--output no/page.html`: "),
        (["runs/first"], "`runs/first` has its own storage: leave out `--storage"),
    ],
)
def test_report_refuses_what_it_cannot_do(folder, stored, arguments, said):
    refused = CliRunner().invoke(cli, ["report", *arguments, "--storage", stored])
    assert refused.exit_code == 2
    assert said in refused.output
    assert not open_storage(stored).exists("first/report.html")
