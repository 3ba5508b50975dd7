"""`raysweep image`: what it asks of docker, here a program that only writes down how it was called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raysweep.cli import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the calls; `docker` fails for an image called broken."""
    program, calls = tmp_path / "bin" / "docker", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$DOCKER_BUILDKIT $*" >>{calls}\ncase "$*" in *broken*) exit 3;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name in ("RAYSWEEP_IMAGE", "RAYSWEEP_STORE_IMAGE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    return calls


def image(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["image", *arguments])


def test_both_images_are_built_from_the_kits_own_files(calls: Path) -> None:
    assert image().exit_code == 0
    assert calls.read_text().splitlines() == [
        f"1 build --file {ROOT}/docker/Dockerfile --target {stage} --tag {tag} {ROOT}"
        for stage, tag in (("ray", "raysweep:local"), ("store", "raysweep-store:local"))
    ]


def test_base_and_certificates_and_names_are_passed_on(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSWEEP_IMAGE", "team/raysweep:1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").touch()
    assert image("--base-image", "debian:bookworm-slim").exit_code == 0
    first = calls.read_text().splitlines()[0]
    assert f"--build-arg BASE_IMAGE=debian:bookworm-slim --secret id=ca,src={tmp_path}/ca.pem --target ray" in first
    assert "--tag team/raysweep:1 " in first


def test_certificates_that_are_not_there_are_named(calls: Path) -> None:
    refused = image("--ca-bundle", "/no/such")
    assert (refused.exit_code, calls.exists()) == (2, False)
    assert refused.output == "error: `--ca-bundle /no/such`: cannot be read: name a file of certificates\n"


def test_a_build_that_fails_is_an_error(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSWEEP_IMAGE", "broken")
    failed = image()
    assert failed.exit_code == 1
    assert failed.output == "error: `docker build` of broken failed with exit code 3\n"
    assert len(calls.read_text().splitlines()) == 1


def test_without_docker_it_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = image()
    assert (refused.exit_code, refused.output.split(":")[:2]) == (2, ["error", " `docker` is not installed"])
