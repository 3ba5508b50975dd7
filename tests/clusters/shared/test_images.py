"""The kit's own images, and how they are copied into a node, by fakes of the programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysweep.clusters.shared import images
from raysweep.errors import ClusterError

DOCKER = """#!/bin/sh
case "$1 $2" in
"image inspect") [ "$3" = here:1 ] ;;
"save missing:1") echo "Error response from daemon: reference does not exist" >&2; exit 1 ;;
save*) shift; for name in "$@"; do head -c 5000000 /dev/zero; echo "$name"; done ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)


def test_they_are_those_of_make_image_unless_a_variable_names_another(monkeypatch: pytest.MonkeyPatch) -> None:
    assert images.own_images() == {"RAYSWEEP_IMAGE": "raysweep:local", "RAYSWEEP_STORE_IMAGE": "raysweep-store:local"}
    monkeypatch.setenv("RAYSWEEP_IMAGE", "registry:5000/team/raysweep:1.2")
    monkeypatch.setenv("RAYSWEEP_STORE_IMAGE", "")
    assert list(images.own_images().values()) == ["registry:5000/team/raysweep:1.2", "raysweep-store:local"]


@pytest.mark.usefixtures("docker")
def test_those_that_the_engine_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert images.absent() == [
        "there is no image raysweep:local and raysweep-store:local: build them with `raysweep image`"
    ]
    monkeypatch.setenv("RAYSWEEP_IMAGE", "here:1")
    assert "no image raysweep-store:local: " in images.absent()[0]
    monkeypatch.setenv("RAYSWEEP_STORE_IMAGE", "here:1")
    assert images.absent() == []


@pytest.mark.usefixtures("docker")
def test_all_are_sent_to_the_program_in_one_stream(tmp_path: Path) -> None:
    images.stream(["a:1", "b:1"], ["sh", "-c", f"tr -d '\\000' >{tmp_path}/read"])
    assert (tmp_path / "read").read_text() == "a:1\nb:1\n"


@pytest.mark.usefixtures("docker")
def test_a_program_that_fails_before_it_has_read_all_is_not_waited_for() -> None:
    with pytest.raises(ClusterError, match="failed: no space left"):
        images.stream(["a:1"], ["sh", "-c", "echo no space left >&2; exit 1"])


@pytest.mark.usefixtures("docker")
@pytest.mark.parametrize("program", ["cat", "false"])
def test_an_image_that_cannot_be_read_is_an_error_whatever_the_program_makes_of_it(program: str) -> None:
    with pytest.raises(ClusterError, match="reference does not exist") as caught:
        images.stream(["missing:1"], [program])
    assert "`docker save`" in str(caught.value)
