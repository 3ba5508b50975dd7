"""Optuna as a part of a sweep says nothing of its own, and keeps its settings for whoever uses it beside."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import optuna


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without Optuna's word that there is a new study: all that it says below a warning of what is done here."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def experiments_allowed() -> Iterator[None]:
    """Without Optuna's warnings that an option of it is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
