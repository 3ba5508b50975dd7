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
