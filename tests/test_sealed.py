"""The variables of a job travel sealed, and only a process with the cluster's token opens them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysweep import env, ray_private, sealed
from raysweep.errors import BadInput

TOKEN = "5a" * 32


@pytest.fixture(autouse=True)
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is one of the cluster's: it has the token as a file."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv(env.RAY_AUTH_TOKEN_PATH, str(tmp_path / "token"))
    ray_private.read_auth_again()
    yield
    monkeypatch.undo()
    ray_private.read_auth_again()


def give(monkeypatch: pytest.MonkeyPatch, token: str = TOKEN, **variables: str | None) -> dict:
    """Sets what Ray would set in a process of a job with these variables."""
    settings = sealed.runtime_env(variables, token)
    for name, value in settings["env_vars"].items():
        monkeypatch.setenv(name, value)
    for name in variables:
        monkeypatch.setenv(name, "of the cluster")
    return settings


def test_a_process_of_the_cluster_has_them_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = 'it\'s $HOME; "q" =\n\udcff é'
    settings = give(monkeypatch, SECRET="hush", ODD=odd, EMPTY="", GONE=None)
    assert "hush" not in json.dumps(settings)
    sealed.unseal()
    assert {name: os.environ.get(name) for name in ("SECRET", "ODD", "EMPTY", "GONE")} == {
        "SECRET": "hush", "ODD": odd, "EMPTY": "", "GONE": None,
    }  # fmt: skip


def test_with_another_token_they_stay_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, token="6b" * 32, SECRET="hush")
    with pytest.raises(BadInput, match="sealed with another token than the one of this cluster's processes") as caught:
        sealed.unseal()
    assert "hush" not in str(caught.value)
    assert os.environ["SECRET"] == "of the cluster"


def test_the_same_values_look_different_each_time() -> None:
    texts = {json.dumps(sealed.runtime_env({"SECRET": "hush"}, TOKEN)) for _ in range(2)}
    assert len(texts) == 2


def test_a_job_without_variables_is_given_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sealed.runtime_env({}, TOKEN) == {}
    monkeypatch.delenv(env.RAYSWEEP_SEALED, raising=False)
    sealed.unseal()
