"""What `up` and `down` do to a cluster that does not answer, whatever its target: nothing that loses data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep.clusters import lifecycle, targets
from raysweep.clusters.targets import Cluster, Options, Target
from raysweep.errors import BadInput, ClusterError, Unreachable

OLD = Cluster("kind", "old", "http://127.0.0.1:1", "", "s3://raysweep", "")


class Fake(Target):
    """A target that records its calls."""

    options = frozenset()

    def __init__(self, health: bool | ClusterError, revived: Cluster | ClusterError | None = None) -> None:
        self.health, self.revived, self.calls = health, revived, []

    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        self.calls.append("start")
        new = dataclasses.replace(OLD, id="new")
        record(new)
        return new

    def stop(self, cluster: Cluster, volumes: bool = False) -> str:
        self.calls.append("stop")
        return "all"

    def healthy(self, cluster: Cluster) -> bool:
        self.calls.append("healthy")
        return _give(self.health)

    def logs(self, cluster: Cluster, follow: bool) -> int:
        raise AssertionError("not expected to be called")

    def scale(self, cluster: Cluster, workers: int) -> None:
        raise AssertionError("not expected to be called")

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
        self.calls.append("revive")
        return _give(self.revived)


def _give(answer):
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / ".raysweep"
    folder.mkdir()
    (folder / "cluster.json").write_text(json.dumps(dataclasses.asdict(OLD)))
    return tmp_path


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fake], Fake]:
    def put(fake: Fake) -> Fake:
        monkeypatch.setattr(targets, "load", lambda _: fake)
        return fake

    return put


@pytest.mark.parametrize("health", [False, Unreachable("no answer")])
def test_a_cluster_that_may_hold_data_is_revived_and_not_removed(
    project: Path, use: Callable[[Fake], Fake], health: bool | ClusterError
) -> None:
    fake = use(Fake(health, revived=OLD))
    assert lifecycle.up(project, "kind") == (OLD, False)
    assert fake.calls == ["healthy", "revive"]


def test_one_that_cannot_be_revived_stays(project: Path, use: Callable[[Fake], Fake]) -> None:
    fake = use(Fake(False, revived=Unreachable("no answer")))
    with pytest.raises(Unreachable):
        lifecycle.up(project, "kind")
    assert "stop" not in fake.calls
    assert lifecycle.read(project) == OLD


def test_another_target_does_not_replace_it(project: Path, use: Callable[[Fake], Fake]) -> None:
    fake = use(Fake(Unreachable("no answer")))
    with pytest.raises(
        BadInput, match="the kind cluster does not answer, and may hold sweeps: `raysweep cluster down`"
    ):
        lifecycle.up(project, "local")
    assert fake.calls == ["healthy"]


def test_a_cluster_of_which_nothing_is_left_is_replaced(project: Path, use: Callable[[Fake], Fake]) -> None:
    fake = use(Fake(False, revived=None))
    cluster, was_up = lifecycle.up(project, "kind")
    assert (cluster.id, was_up) == ("new", False)
    assert fake.calls == ["healthy", "revive", "stop", "start"]


def test_a_cluster_that_cannot_be_reached_can_be_forgotten(project: Path, use: Callable[[Fake], Fake]) -> None:
    fake = use(Fake(Unreachable("no answer")))
    ended = lifecycle.down(project, forget=True)
    assert ended
    assert "its record" in ended[1]
    assert fake.calls == []
    assert lifecycle.read(project) is None


def test_the_reason_of_a_failed_start_is_reported_even_if_its_remains_cannot_be_removed(
    tmp_path: Path, use: Callable[[Fake], Fake], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = use(Fake(False))

    def start(project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        record(OLD)
        raise ClusterError("no such image")

    def stop(cluster: Cluster, volumes: bool = False) -> str:
        raise Unreachable("no answer")

    monkeypatch.setattr(fake, "start", start)
    monkeypatch.setattr(fake, "stop", stop)
    with pytest.raises(ClusterError, match="no such image"):
        lifecycle.up(tmp_path, "kind")
    assert "could not be removed: no answer" in capsys.readouterr().err
    assert lifecycle.read(tmp_path) == OLD
