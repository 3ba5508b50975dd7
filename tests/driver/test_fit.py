"""What fits into the memory of a node, and of a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raysweep.driver.fit import CUDA_CONTEXT, GIB, Fit
from raysweep.trial.usage import Usage
from tests.loop.sweeps import sweep_of

SMALL = Usage(1, "a", peak=2 * GIB, shared=GIB, gpu=0, host_memory=10 * GIB, gpu_memory=0)


def fit(*usages: Usage, rooms: tuple[int, ...] = (4,), places: int = 20, **share: float) -> Fit:
    found = Fit.of(replace(sweep_of("asha"), **share), usages, rooms, places)
    assert found is not None
    return found


def test_what_is_shared_counts_once() -> None:
    found = fit(SMALL)
    assert (found.own, found.shared, found.at_once) == (GIB, GIB, 4)
    assert found.room == 8  # 9.5 of the 10 may be used, one is shared, and each needs one
    assert found.problems == []


def test_the_largest_process_counts_on_the_smallest_node() -> None:
    found = fit(SMALL, replace(SMALL, peak=4 * GIB), replace(SMALL, host_memory=8 * GIB))
    assert (found.own, found.host_memory, found.room) == (3 * GIB, 8 * GIB, 2)
    [problem] = found.problems
    assert problem == (
        "`--cpus-per-trial 1`: a node would run 4 processes of trials at a time, which need 13.0 GiB, and has 8.0 GiB:"
        " use --cpus-per-trial 2, or --concurrency"
    )


def test_a_sweep_of_few_trials_needs_no_more_than_these() -> None:
    assert fit(replace(SMALL, peak=5 * GIB), places=2).problems == []
    assert fit(replace(SMALL, peak=5 * GIB), places=1, workers=3).problems != []


def test_not_even_one_may_fit() -> None:
    [problem] = fit(replace(SMALL, peak=11 * GIB)).problems
    assert problem.endswith("not one fits: use larger nodes, or a smaller space")


@pytest.mark.parametrize(("share", "room", "told"), [(0.5, 3, None), (0.25, 3, "use --gpus-per-trial 0.333")])
def test_trials_that_share_a_gpu_share_its_memory(share: float, room: int, told: str | None) -> None:
    found = fit(replace(SMALL, gpu=3 * GIB - CUDA_CONTEXT, gpu_memory=10 * GIB), gpus=share)
    assert (found.gpu_room, found.on_gpu) == (room, int(1 / share))
    assert [each for each in found.problems if told is None or told not in each] == []
    assert bool(found.problems) is (told is not None)


def test_nothing_measured_says_nothing() -> None:
    assert Fit.of(sweep_of("asha"), [], [1], 1) is None
