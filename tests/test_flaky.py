"""The list of tests that may fail on a busy machine: short, and of tests that there are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.flaky import FLAKY, MOST

ROOT = Path(__file__).parents[1]
pytest_plugins = ["pytester"]


def test_each_is_a_test_with_a_reason_and_they_are_few() -> None:
    assert len(FLAKY) <= MOST
    for test, reason in FLAKY.items():
        path, _, name = test.partition("::")
        module = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in module.body if isinstance(node, ast.FunctionDef)}, test
        assert len(reason.split()) > 5


def test_only_those_on_the_list_are_tried_again(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(
        test_some="""
        tries = []
        def fails_once(name):
            tries.append(name)
            assert tries.count(name) > 1
        def test_listed():
            fails_once("listed")
        def test_other():
            fails_once("other")
        """
    )
    monkeypatch.setitem(FLAKY, "test_some.py::test_listed", "of this test, which looks at the list itself")
    done = pytester.runpytest_inprocess("-p", "tests.flaky", "-o", "addopts=")
    done.assert_outcomes(passed=1, failed=1)
    assert "1 rerun" in done.stdout.str()
