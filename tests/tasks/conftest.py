import dataclasses

import numpy as np
import pytest

from tests.tasks.session import Session


@pytest.fixture
def session(monkeypatch) -> Session:
    return Session(monkeypatch)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """What Ray gives a trial of one CPU, and what makes results equal to the last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read_only(data):
    """The data as Ray's object store gives them to a trial."""
    for value in vars(data).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
        elif dataclasses.is_dataclass(value):
            read_only(value)
    return data


def overlap(one, other) -> int:
    """How many examples of one part are in another."""
    return len({row.tobytes() for row in one.inputs} & {row.tobytes() for row in other.inputs})
