import numpy as np
import pytest
import torch

from tasks import _tensors


@pytest.fixture
def every_warning():
    """Torch warns of a read-only array once a process; a test needs it each time."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


def test_read_only_array_gives_a_view_and_no_warning(every_warning):
    array = np.arange(3.0)
    view = array.view()
    view.flags.writeable = False

    with pytest.warns(UserWarning, match="not writable"):
        torch.from_numpy(view)
    result = _tensors.tensor(view)
    array[0] = 7.0

    assert result[0] == 7.0


def test_batches_follow_from_seed_and_epoch_and_cover_every_example():
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(_tensors.batches(100, 32, seed, epoch)).tolist()

    assert sorted(order(0, 1)) == list(range(100))
    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2)}) == 4


def test_accuracy_counts_all_batches(monkeypatch):
    monkeypatch.setattr(_tensors, "EVALUATION_BATCH", 2)
    chances = torch.eye(3)[[0, 1, 2, 0, 1]]

    assert _tensors.accuracy(torch.nn.Identity(), chances, torch.tensor([0, 1, 2, 0, 0])) == 0.8
