"""The files of MNIST and of every data set in its format: found in a folder, or downloaded."""

import os
import socket
import tempfile
import threading
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raysweep.errors import BadInput

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FOLDERS = (".", "raw", "MNIST/raw", "FashionMNIST/raw")  # of a root; the last two are torchvision's
ANSWER_SECONDS = 2.5  # in which a mirror must answer: without a network the sweep says so at once
STALL_SECONDS = 30.0  # without a byte end a download; torchvision itself would wait for ever


def read(root: Path) -> list[np.ndarray]:
    """The four arrays of bytes, in the order of FILES.

    Raises:
        BadInput: the files are not there, or not what they should be.
    """
    paths = find(root)
    if not paths:
        places = ", ".join(str(root / folder) for folder in FOLDERS)
        raise BadInput(f"`--data {root}`: no four idx files ({FILES[0]}, ..., gzipped or not) in any of {places}")
    try:
        return [_array(path) for path in paths]
    except (AssertionError, EOFError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise BadInput(f"`--data {root}`: a damaged idx file in {paths[0].parent} ({error!r})") from error


def find(root: Path) -> list[Path]:
    """The four files, from the first of FOLDERS that has them all; empty if none has."""
    for folder in FOLDERS:
        found = [[*(root / folder).glob(name), *(root / folder).glob(f"{name}.gz")] for name in FILES]
        if all(found):
            return [paths[0] for paths in found]
    return []


def _array(path: Path) -> np.ndarray:
    # Two seconds of imports, which missing files do not wait for.
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
    from torchvision.datasets.utils import extract_archive

    with tempfile.TemporaryDirectory() as scratch:  # the data's own folder may be read-only
        if path.suffix == ".gz":
            path = Path(extract_archive(str(path), scratch))
        array: np.ndarray = read_sn3_pascalvincent_tensor(str(path)).numpy()
        return array


def downloaded(name: str) -> Path:
    """The folder of one of torchvision's data sets, such as MNIST, in the user's cache, with its files in it.

    Raises:
        BadInput: it is not there, and no mirror gives it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "raysweep"
    if not find(cache / name):
        try:
            _download(_source(name), cache)
        except (OSError, HTTPException, RuntimeError) as error:
            raise BadInput(
                f"{name} is not in {cache}, and cannot be downloaded ({error}):"
                " give a folder with its four idx files, `--data DIR`"
            ) from error
    return cache / name


def _source(name: str) -> "type[MNIST]":
    from torchvision import datasets

    source: Any = getattr(datasets, name)
    return source


def _download(source: "type[MNIST]", cache: Path) -> None:
    if not _answers(source):
        raise ConnectionError(f"no answer from {' or '.join(source.mirrors)}")
    cache.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        # Into a folder of its own, so that a download cut short is never taken for the data.
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            source(scratch, download=True)
            with suppress(OSError):  # another sweep was faster
                Path(scratch, source.__name__).rename(cache / source.__name__)
    finally:
        socket.setdefaulttimeout(before)


def _answers(source: "type[MNIST]") -> bool:
    answers = []

    def ask() -> None:
        for mirror in source.mirrors:
            with suppress(OSError, HTTPException):
                urllib.request.urlopen(mirror + source.resources[0][0], timeout=ANSWER_SECONDS).close()
                answers.append(mirror)
                return

    # In a thread, since a name look-up obeys no time limit of Python's.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return bool(answers)
