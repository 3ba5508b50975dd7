"""The choice of the context, and the messages if there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from raysweep.clusters.kubernetes.api import Kube, open_cluster, write_settings
from raysweep.errors import BadInput, Unreachable


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "config"
    cluster = {"server": "https://127.0.0.1:1"}
    contexts = [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("mine", "other")]
    content = {"apiVersion": "v1", "kind": "Config", "current-context": "mine", "contexts": contexts}
    content |= {"clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": "t"}}]}
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_the_current_context_unless_another_is_named(kubeconfig: str) -> None:
    assert Kube(kubeconfig, None).context == "mine"
    other = Kube(kubeconfig, "other")
    assert other.command[1:] == [f"--kubeconfig={kubeconfig}", "--context=other", "--namespace=raysweep"]
    assert other.server == "https://127.0.0.1:1"


def test_an_unknown_context_is_refused_with_the_existing_ones(kubeconfig: str) -> None:
    with pytest.raises(BadInput, match="`--context theirs`: the kubeconfig has mine, other"):
        Kube(kubeconfig, "theirs")


def test_without_a_kubeconfig_the_fix_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="set KUBECONFIG, or make a cluster with TARGET=kind"):
        Kube(str(tmp_path / "none"), None)


def test_a_server_that_is_not_there_does_not_answer(kubeconfig: str) -> None:
    assert not Kube(kubeconfig, None).answers()


def test_no_answer_does_not_count_as_missing(kubeconfig: str) -> None:
    kube = Kube(kubeconfig, None)
    for call in (
        lambda: kube.get("RayCluster", "raysweep"),
        lambda: kube.names("RayJob"),
        lambda: kube.delete("RayJob", "x"),
        lambda: kube.pods(),
        lambda: kube.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}]),
    ):
        with pytest.raises(Unreachable, match="API server of context mine does not answer at https:"):
            call()


def test_the_written_settings_lead_to_the_same_cluster(kubeconfig: str, tmp_path: Path) -> None:
    write_settings(tmp_path / "kubernetes" / "settings.json", kubeconfig=kubeconfig, context="other")
    assert open_cluster(str(tmp_path / "kubernetes" / "settings.json")).context == "other"
