"""Which line of a traceback a user can do something about: the innermost one of the user's own code."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

_OURS = str(Path(__file__).parent)
_PYTHONS = (*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")), "<frozen ")
_LIBRARIES = {"site-packages", "dist-packages"}
Frame = tuple[str, int | None, str]  # file, line, function


def place_in(trace: TracebackType | None) -> str:
    """The user's line in a traceback, as text; empty if no code of the user's is in it."""
    return place_of((each.filename, each.lineno, each.name) for each in reversed(traceback.extract_tb(trace)))


def place_of(frames: Iterable[Frame]) -> str:
    """The user's line among frames, the innermost first; empty if there is none."""
    return next((_text(frame) for frame in frames if is_users(frame[0])), "")


def innermost(trace: TracebackType | None) -> str:
    """The innermost line of a traceback, whoever wrote it."""
    frames = traceback.extract_tb(trace)
    return _text((frames[-1].filename, frames[-1].lineno, frames[-1].name)) if frames else "an unknown place"


def is_users(file: str) -> bool:
    """Whether a file is neither of this package, nor of an installed one, nor of Python itself."""
    return not file.startswith((_OURS, *_PYTHONS)) and not _LIBRARIES & {*Path(file).parts}


def _text(frame: Frame) -> str:
    file, line, function = frame
    return f"{file}, line {line}, in {function}"
