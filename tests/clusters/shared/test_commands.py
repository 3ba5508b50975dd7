"""What a program said that failed: its end in the error, all of it in a file, and no secret in either."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.clusters.shared import commands
from raysweep.errors import ClusterError


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".raysweep").mkdir()
    return tmp_path / ".raysweep" / "logs"


def failed(script: str, *arguments: str) -> str:
    with pytest.raises(ClusterError) as caught:
        commands.run(["sh", "-c", script, *arguments])
    return str(caught.value)


def test_what_it_prints_is_returned_and_nothing_kept(logs: Path) -> None:
    assert commands.run(["echo", "a"]) == "a\n"
    assert not logs.exists()


def test_the_last_lines_are_shown_and_all_of_them_kept(logs: Path) -> None:
    message = failed("seq 1001 1100; exit 3")
    assert message.splitlines()[1:] == [*(str(n) for n in range(1086, 1101)), f"all of it: {logs / 'sh.log'}"]
    assert "1001\n" in (logs / "sh.log").read_text()
    assert (logs / "sh.log").stat().st_mode & 0o777 == 0o600


def test_the_stack_below_a_reason_is_only_kept(logs: Path) -> None:
    stack = "main.main\n\tk8s.io/kubeadm.go:25\nruntime.goexit\n\truntime/asm_amd64.s:1771\n"
    message = failed('printf %s "$0" >&2; exit 1', f"error: the kubelet did not start\n{stack}")
    assert message.endswith(f"failed: error: the kubelet did not start\nall of it: {logs / 'sh.log'}")
    assert "main.main" in (logs / "sh.log").read_text()


def test_what_fails_later_is_added(logs: Path) -> None:
    for word in ("first", "second"):
        failed(f"echo {word} >&2; exit 1")
    assert [line for line in (logs / "sh.log").read_text().splitlines() if "==" not in line] == ["first", "second"]


def test_one_that_fails_without_a_word_has_its_exit_code_told() -> None:
    assert "failed: exit code 7, without a word" in failed("exit 7")


def test_one_that_is_not_there_is_named() -> None:
    with pytest.raises(ClusterError, match="`nobody up` failed: there is no program nobody"):
        commands.run(["nobody", "--quiet", "up"])


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["/usr/bin/docker", "compose", "--progress=quiet", "--env-file=x", "up", "--detach"], "docker compose up"),
        (["minikube", "--profile=x", "start", "--wait=all"], "minikube start"),
    ],
)
def test_a_command_is_named_without_its_flags(command: list[str], named: str) -> None:
    assert commands._named(command) == named


def test_no_secret_is_shown_or_kept(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (logs.parent / "token").write_text("0123456789abcdef0123")
    (logs.parent / "docker").mkdir()
    (logs.parent / "docker" / "aws-credentials").write_text(
        "[default]\naws_access_key_id = ABCDEF0123456789ABCD\naws_secret_access_key = -a_b-c_d-e_f-g_h-i_j-k\n"
    )
    monkeypatch.setenv("REGISTRY_PASSWORD", "correct-horse")
    secrets = ("0123456789abcdef0123", "ABCDEF0123456789ABCD", "a_b-c_d-e_f-g_h-i_j-k", "correct-horse", "user:pass")
    text = f"{' '.join(secrets[:4])} http://user:pass@proxy [default] aws_access_key_id"
    for written in (failed('echo "$0"; exit 1', text), (logs / "sh.log").read_text()):
        assert not [secret for secret in secrets if secret in written]
        assert "http://***@proxy [default] aws_access_key_id" in written, "all else is there"


def test_the_reason_is_shown_where_nothing_can_be_kept(logs: Path) -> None:
    logs.write_text("a file is in the way")
    assert failed("echo why; exit 1").endswith("failed: why")
