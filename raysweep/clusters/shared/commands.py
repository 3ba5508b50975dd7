"""The programs that are run for the user: docker, kind, minikube, kubectl, ray.

What one of them said that failed is kept in `.raysweep/logs/`, and its last lines are in the error: a reason should not
have to be found by running it again. Nothing is kept of those that succeed.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from raysweep import kit
from raysweep.errors import ClusterError

LAST_LINES = 15
MOST_BYTES = 2**20  # of a log; an older one begins anew
SHORTEST_SECRET = 8  # characters: `1` is not one, whatever its variable is called
_SECRET_NAMES = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY", re.IGNORECASE)
_SECRET_FILES = ("token", "aws-credentials")
_KEYS = re.compile(r"\b(?!aws_)[\w+/-]{16,}")  # in those files, whose other words are short, or names
_GO_FRAME = re.compile(r"^\S+\n\t\S+\.(?:go|s):\d+$", re.MULTILINE)  # kubeadm ends with its stack, below the reason
_BOX = re.compile(r"^(?:[╭│╰].*|\*\s*)$", re.MULTILINE)  # minikube ends with one that asks for an issue
_LOGIN = re.compile(r"//[^/@\s]+@")  # of a proxy's or a registry's address


def run(
    command: list[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
) -> str:
    """The output of a program.

    Args:
        command: the program and its arguments.
        environment: instead of this process's.
        stdin: what it reads.

    Raises:
        ClusterError: it failed, with its last lines and where all of them are; or it is not installed.
    """
    try:
        done = subprocess.run(command, env=environment, stdin=stdin, capture_output=True, text=True, errors="replace")
    except FileNotFoundError as error:
        raise ClusterError(f"`{_named(command)}` failed: there is no program {command[0]}: install it") from error
    if done.returncode != 0:
        said = "\n".join(filter(None, (done.stdout.strip(), done.stderr.strip())))
        named = _named(command)
        raise failure(f"`{named}` failed", said or f"exit code {done.returncode}, without a word", named)
    return done.stdout


def _named(command: list[str]) -> str:
    """What it is and does, without its flags: `docker compose up`."""
    words = [word for word in command[1:] if not word.startswith("-")]
    return without_secrets(" ".join([Path(command[0]).name, *words[:2]]))


def failure(what: str, said: str, program: str) -> ClusterError:
    """An error with the last lines of what a program said; all of it is kept.

    Args:
        what: failed, as the beginning of the message.
        said: by the program.
        program: its name, and what it did.
    """
    return ClusterError(f"{what}: {last_lines(said)}{keep(program, said)}")


def said_in(log: Path) -> str:
    """What a file has of a program that runs in the background."""
    try:
        return log.read_text(errors="replace")
    except OSError as error:
        return f"(no log: {error})"


def last_lines(said: str, most: int = LAST_LINES) -> str:
    """The end of what a program said, without secrets, stack and box; of several lines, each has its own."""
    plain = _BOX.sub("", _GO_FRAME.sub("", without_secrets(said)))
    lines = [line for line in plain.splitlines() if line.strip()][-most:]
    return "\n".join(["", *lines] if len(lines) > 1 else lines) or "it said nothing"


def keep(program: str, said: str) -> str:
    """Adds what a program said to its log, readable for this user only; returns where, as the end of a message."""
    path = _folder() / "logs" / f"{program.split()[0]}.log"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > MOST_BYTES:
            path.unlink()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
            file.write(f"== {time.strftime('%Y-%m-%d %H:%M:%S')} {program}\n{without_secrets(said)}\n")
    except OSError:  # the reason itself is shown, wherever it can be kept
        return ""
    return f"\nall of it: {path}"


def without_secrets(text: str) -> str:
    """A text without the project's token and keys, secret variables' values, and logins in addresses."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _LOGIN.sub("//***@", text)


def _secrets() -> set[str]:
    values = {value for name, value in os.environ.items() if _SECRET_NAMES.search(name)}
    found = {value for value in values if len(value) >= SHORTEST_SECRET and not Path(value).is_absolute()}
    for path in (path for name in _SECRET_FILES for path in _folder().rglob(name)):
        with contextlib.suppress(OSError):
            found.update(_KEYS.findall(path.read_text(errors="replace")))
    return found


def _folder() -> Path:
    return kit.project(Path.cwd()) / kit.FOLDER
