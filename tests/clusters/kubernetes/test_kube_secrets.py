"""The Secrets that the kit makes: from files of their owner's, and of the keys of a store or of the user."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from raysweep.clusters.kubernetes import kube_secrets
from raysweep.clusters.targets import Cluster


def made(folder: Path, endpoint: str = "", has_role: bool = False) -> dict[str, dict[str, str]]:
    (folder / "token").write_text("t0ken")
    cluster = Cluster("kind", "id", "", "", "s3://raysweep", str(folder / "token"), endpoint=endpoint)
    return {
        each["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in each["data"].items()}
        for each in kube_secrets.objects(folder, cluster, has_role)
    }


@pytest.fixture(autouse=True)
def no_keys_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_a_store_and_its_users_get_the_same_keys_and_keep_them(tmp_path: Path) -> None:
    first = made(tmp_path, "http://127.0.0.1:8333")
    assert first["raysweep-token"] == {"auth_token": "t0ken"}
    secret = first["raysweep-s3"]["credentials"].split("aws_secret_access_key = ")[1].strip()
    assert secret in first["raysweep-store"]["identities.json"]
    assert made(tmp_path, "http://127.0.0.1:8333") == first
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*s*.*")} <= {0o600}
    assert ((tmp_path / "aws-credentials").stat().st_mode & 0o777) == 0o600


def test_without_a_store_the_users_lasting_keys_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(made(tmp_path)) == {"raysweep-token"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    assert "aws_secret_access_key = s3cret" in made(tmp_path)["raysweep-s3"]["credentials"]
    assert set(made(tmp_path, has_role=True)) == {"raysweep-token"}


def test_short_lived_keys_are_not_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "x")
    assert set(made(tmp_path)) == {"raysweep-token"}
