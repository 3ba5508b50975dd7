"""The finished sweeps of a command line: by name, by pattern, in groups that can be compared."""

import pytest

from raysweep.errors import BadInput
from raysweep.study import sweeps
from tests.study.finished import sweep


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps")
    for seed in (0, 1):
        sweep(folder, f"random-{seed}", samples=2, seed=seed)
        sweep(folder, f"asha-{seed}", "asha", samples=2, seed=seed)
    sweep(folder, "again", "asha", samples=2, seed=1)
    sweep(folder, "elsewhere", samples=2, seed=5, spec={"task": "digits"})
    return str(folder)


def grouped(words, storage):
    return {label: [each.spec["name"] for each in found] for label, found in sweeps.groups(words, storage).items()}


def test_names_and_patterns(storage):
    assert [each.spec["name"] for each in sweeps.find(["asha-1", "*-0", "asha-*"], storage)] == [
        *("asha-1", "asha-0", "random-0"),
    ]


def test_sweeps_of_one_strategy_are_one_group_unless_they_are_named(storage):
    assert grouped(["random-*", "asha-0", "asha-1"], storage) == {
        "random_search": ["random-0", "random-1"],
        "asha": ["asha-0", "asha-1"],
    }
    assert grouped(["new=asha-0,again", "old=asha-*"], storage) == {
        "new": ["asha-0", "again"],
        "old": ["asha-0", "asha-1"],
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ransom-0"], "`ransom-0`: no sweep in .*did you mean `random-0`"),
        (["asha-0,x-*,y"], "(?s)`x-\\*`.*`y`"),
        (["asha-1", "again"], "both asha with seed 1"),
        (["random-0", "elsewhere"], "`elsewhere` has the task digits"),
    ],
)
def test_what_cannot_be_compared_is_refused(storage, words, said):
    with pytest.raises(BadInput, match=said):
        sweeps.groups(words, storage)
