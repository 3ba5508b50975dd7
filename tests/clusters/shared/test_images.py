"""The kit's own images."""

import os
from pathlib import Path

import pytest

from raysweep.clusters.shared.images import copy, own_images
from raysweep.errors import ClusterError

DOCKER = """#!/bin/sh
case "$*" in
"save broken") echo half; exit 1 ;;
save*) echo "$@" ;;
*) echo "$@" >>node; cat >>node; grep -q unwanted node && echo "ctr: no space left" >&2 && exit 1; exit 0 ;;
esac
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a fake `docker` has run in a node, and what that has read."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "node"


def test_images_go_to_a_node_in_one_stream(node: Path) -> None:
    copy(["one", "two"], ["docker", "exec", "-i", "n"])
    assert node.read_text() == "exec -i n ctr --namespace=k8s.io images import --digests -\nsave one two\n"


def test_an_image_that_cannot_be_saved_is_an_error(node: Path) -> None:
    with pytest.raises(ClusterError, match="`docker save` of broken failed"):
        copy(["broken"], ["docker", "exec", "-i", "n"])


def test_a_node_that_takes_no_image_says_why(node: Path) -> None:
    with pytest.raises(ClusterError, match="no space left"):
        copy(["unwanted"], ["docker", "exec", "-i", "n"])


def test_they_are_those_of_make_image_unless_a_variable_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_images() == {"RAYSWEEP_IMAGE": "raysweep:local", "RAYSWEEP_STORE_IMAGE": "raysweep-store:local"}
    monkeypatch.setenv("RAYSWEEP_IMAGE", "registry:5000/team/raysweep:1.2")
    monkeypatch.setenv("RAYSWEEP_STORE_IMAGE", "")
    assert list(own_images().values()) == ["registry:5000/team/raysweep:1.2", "raysweep-store:local"]
