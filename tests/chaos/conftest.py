"""The arena: one cluster on this machine, whose nodes know an S3 store behind a proxy that can fail.

    make chaos LIST=1                                 the faults
    make chaos FAULT=driver-killed STRATEGY=asha      some cells
    make chaos                                        all of them, minutes
    make chaos TENTH=1                                what CI runs

Each cell writes a line of JSON to CHAOS_LOG, from which `python -m tests.chaos.report` makes docs/faults.md.
"""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests import s3
from tests.chaos.cell import TASK_PREFIX, Cell, Verdict, chosen
from tests.ray_project import Project, make_project
from tests.waiting import until

TENTH = bool(os.environ.get("CHAOS_TENTH"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    asked = os.environ.get("CHAOS_FAULT")
    for item in [each for each in items if "tests/chaos" in each.path.as_posix()]:
        item.add_marker(pytest.mark.timeout(1500))
        fault = item.get_closest_marker("fault")
        if asked and (fault is None or fault.args[0] not in asked.split(",")):
            item.add_marker(pytest.mark.skip(reason=f"FAULT={asked}"))
        elif TENTH and not asked and item.get_closest_marker("tenth") is None:
            item.add_marker(pytest.mark.skip(reason="not in the tenth of the matrix that CI runs"))


@pytest.fixture
def strategies(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The strategies of the matrix, or those of STRATEGY, or a few."""
    tenth = request.node.get_closest_marker("tenth")
    few = TENTH and not os.environ.get("CHAOS_STRATEGY")
    return tuple(tenth.args) if few and tenth and tenth.args else chosen()


@pytest.fixture(scope="session")
def proxy(s3_server: s3.S3Server) -> Iterator[s3.S3Proxy]:
    """In front of the real S3 server."""
    with s3.running_s3_proxy(s3_server) as running:
        yield running


@pytest.fixture(scope="session")
def arena(proxy: s3.S3Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose cluster is up."""
    made = make_project(tmp_path_factory.mktemp("arena"))
    made.env |= proxy.env
    os.environ.update(proxy.env)
    try:
        with made.running("--num-cpus", "8"):
            yield made
            leaking = _leaking(made, (made.token.strip(), proxy.secret_key))
    finally:
        for name in proxy.env:
            os.environ.pop(name, None)
    assert not leaking, f"I8 a secret is in {leaking}"


def _leaking(project: Project, secrets: tuple[str, ...]) -> list[Path]:
    """Of drivers, of trials and of Ray's own processes."""
    logs = [path for path in Path(project.cluster.temp_dir).glob("ray/session_*/logs/**/*") if path.is_file()]
    assert {".log", ".out", ".err"} <= {path.suffix for path in logs}, "these are not Ray's logs"
    return [path for path in logs if any(secret in path.read_text(errors="replace") for secret in secrets)]


Make = Callable[..., Cell]


@pytest.fixture
def make(arena: Project, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """Makes a cell of this test's fault, on a folder if no storage is given."""
    fault = request.node.get_closest_marker("fault").args[0]

    def cell(strategy: str, storage: str | None = None, **more: object) -> Cell:
        folder = tmp_path / uuid.uuid4().hex[:6]
        return Cell(arena, fault, strategy, storage or str(tmp_path / "runs"), folder, **more)

    return cell


@pytest.fixture
def leftovers() -> Callable[[], list[psutil.Process]]:
    """The trials' processes that run on the cells' cluster: on this machine, and in no container."""
    return lambda: trials(in_containers=False)


@pytest.fixture
def judge(leftovers: Callable[[], list[psutil.Process]]) -> Callable[[Sequence[Verdict]], None]:
    """Writes the verdicts down, and fails with what did not hold; then nothing of the cells may run any more."""

    def write(verdicts: Sequence[Verdict]) -> None:
        until(lambda: not leftovers(), "all trials' processes are gone", 30)
        if path := os.environ.get("CHAOS_LOG"):
            with Path(path).open("a") as file:
                file.writelines(json.dumps(dataclasses.asdict(each)) + "\n" for each in verdicts)
        passed = sum(not each.problems for each in verdicts)
        print(f"cells: {passed} passed / {len(verdicts)} run")
        assert passed == len(verdicts), "\n".join(f"{v.strategy}: {p}" for v in verdicts for p in v.problems)

    return write


def trials(in_containers: bool) -> list[psutil.Process]:
    """Processes of Ray, in containers or in none, that were started for trials of a cell: Ray shows the task's name."""
    titles = [(process, process.info["cmdline"] or [""]) for process in psutil.process_iter(["cmdline"])]
    found = [process for process, words in titles if words[0].startswith(f"ray::{TASK_PREFIX}")]
    return [process for process in found if (_namespace(process.pid) != _namespace(os.getpid())) is in_containers]


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:  # it has ended
        return _namespace(os.getpid())
