"""The variables of a job travel sealed, and only a process with the cluster's token opens them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raysweep import env, sealed
from tests.ray_project import ROOT, clean_environment
from tests.waiting import PATIENCE_S

TOKEN = "5a" * 32


OPEN = """
import json, os
from raysweep import errors, sealed

try:
    sealed.unseal()
except errors.BadInput as error:
    print(error)
print(json.dumps(dict(os.environ)))
"""


def opened(tmp_path: Path, settings: dict[str, Any], *names: str) -> tuple[str, dict[str, str]]:
    """What a process of the cluster, which has its token as a file, says and has in its environment.

    It is one of its own: Ray reads the token once for all of a process.
    """
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    given = {env.RAY_AUTH_TOKEN_PATH: str(tmp_path / "token"), **settings["env_vars"]}
    given |= dict.fromkeys(names, "of the cluster")
    output = subprocess.run(
        [sys.executable, "-c", OPEN], env=clean_environment(tmp_path, PYTHONPATH=str(ROOT), **given),
        stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE_S,
    ).stdout  # fmt: skip
    *told, variables = output.splitlines()
    return "\n".join(told), json.loads(variables)


def test_a_process_of_the_cluster_has_them_as_they_were_given(tmp_path: Path) -> None:
    variables = {"SECRET": "hush", "ODD": 'it\'s $HOME; "q" =\n\udcff é', "EMPTY": "", "GONE": None}
    settings = sealed.runtime_env(variables, TOKEN)
    assert "hush" not in json.dumps(settings)
    told, there = opened(tmp_path, settings, *variables)
    assert {name: there.get(name) for name in variables} == variables
    assert told == ""


def test_with_another_token_they_stay_closed(tmp_path: Path) -> None:
    told, there = opened(tmp_path, sealed.runtime_env({"SECRET": "hush"}, "6b" * 32), "SECRET")
    assert "sealed with another token than the one of this cluster's processes" in told
    assert "hush" not in told
    assert there["SECRET"] == "of the cluster"


def test_the_same_values_look_different_each_time() -> None:
    texts = {json.dumps(sealed.runtime_env({"SECRET": "hush"}, TOKEN)) for _ in range(2)}
    assert len(texts) == 2


def test_a_job_without_variables_is_given_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sealed.runtime_env({}, TOKEN) == {}
    monkeypatch.delenv(env.RAYSWEEP_SEALED, raising=False)
    sealed.unseal()
