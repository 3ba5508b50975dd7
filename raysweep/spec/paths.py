"""Paths of nested parameters: their names, and their values in a configuration."""

from __future__ import annotations

import contextlib
from typing import Any

KeyPath = tuple[Any, ...]  # the keys that lead to a parameter, with indices for lists


def name_of(path: KeyPath) -> str:
    """`("a", "b")` -> `a/b`, as points, Optuna and Ray name a nested parameter."""
    return "/".join(map(str, path))


def value_at(config: Any, path: KeyPath) -> Any:
    """The value at a path of a configuration. Keys may be joined, as in `a/b`, and numbers may be text, as in JSON.

    Raises:
        KeyError: there is none.
    """
    if not path:
        return config
    for size in range(1, len(path) + 1):
        key = path[0] if size == 1 and _has(config, path[0]) else name_of(path[:size])
        if _has(config, key):
            with contextlib.suppress(KeyError):
                return value_at(config[key], path[size:])
    raise KeyError(name_of(path))


def _has(config: Any, key: Any) -> bool:
    if isinstance(config, dict):
        return key in config
    return isinstance(config, list | tuple) and isinstance(key, int) and key < len(config)
