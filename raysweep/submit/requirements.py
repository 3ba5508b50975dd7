"""A file of requirements, which Ray installs on each node for one job: read here, sent as its lines.

Ray gives the job an environment of its own, by pip, on top of the packages that a node has. No line may be an option of
pip: a path in it would be this machine's, and an index with a password would be in the job's description.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from raysweep.errors import BadInput


def read(path: Path) -> tuple[str, ...]:
    """The requirements of a file, a line each; a lock with hashes will do.

    Raises:
        BadInput: it cannot be read, has none, or has lines that are none; all of them.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"`--requirements {path}`: cannot be read ({error}): name a file such as requirements.txt"
        ) from error
    # As pip has it: a line goes on after a backslash, and a comment begins after a space.
    lines = [line.partition(" #")[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    # Of an address, nothing is shown: it may hold a password.
    found = [(line.partition("@")[0].strip(), _problem(line)) for line in lines]
    problems = [f"`--requirements {path}`: `{shown}` {why}" for shown, why in found if why]
    if not lines:
        problems = [f"`--requirements {path}`: it has no requirements: write one a line, such as `einops>=0.8`"]
    if problems:
        raise BadInput(*problems)
    return tuple(" ".join(line.split()) for line in lines)


def runtime_env(lines: tuple[str, ...]) -> dict[str, object]:
    """What to ask of Ray for them; nothing for none."""
    return {"pip": {"packages": list(lines), "pip_check": False}} if lines else {}


def _problem(line: str) -> str | None:
    if line.startswith("-"):
        return "is an option of pip, which is not passed on: write the requirements themselves"
    try:
        url = Requirement(line.partition(" --hash")[0]).url
    except InvalidRequirement as error:
        return f"is no requirement ({str(error).splitlines()[0]}): write it like `einops>=0.8`"
    where = urlsplit(url or "")
    if where.password or (where.username and "ssh" not in where.scheme):
        return "has an address with a password, which would be in the job's description: leave it out"
    return None
