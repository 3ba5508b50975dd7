"""Which line of a traceback is the user's."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from raysweep import user_code, values

HERE = str(Path(__file__))


def caught(function, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        function(*arguments)
    return caught.value.__traceback__


def test_the_innermost_line_of_the_user_is_the_place():
    def own():
        json.loads("{")

    line = own.__code__.co_firstlineno + 1
    assert user_code.place_in(caught(own)) == f"{HERE}, line {line}, in own"
    assert "json" in user_code.innermost(caught(own))


def test_a_place_without_any_code_of_the_user_is_none():
    assert user_code.place_of([(values.__file__, 3, "flat"), (json.__file__, 3, "loads")]) == ""
    assert user_code.place_in(None) == ""


@pytest.mark.parametrize(
    ("file", "users"),
    [
        (HERE, True),
        ("<ipython-input-3-abc>", True),
        ("<frozen importlib._bootstrap>", False),
        (np.__file__, False),
        ("/usr/lib/python3/dist-packages/yaml/__init__.py", False),
        (str(Path(sysconfig.get_path("stdlib")) / "queue.py"), False),
        (values.__file__, False),
    ],
)
def test_installed_code_is_not_the_users(file, users):
    assert user_code.is_users(file) is users
