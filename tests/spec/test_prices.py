"""The table of prices: what may stand in it, and what a budget needs of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep.errors import BadInput
from raysweep.spec.prices import FILE, Prices, problems, read


def written(folder: Path, text: str) -> Path:
    (folder / FILE).write_text(text)
    return folder


def test_a_project_without_a_table_has_no_prices(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_prices_are_read(tmp_path: Path) -> None:
    found = read(written(tmp_path, "currency: CHF\nnode_hour: 0.5\ngpu_hour: 2e-1\n"))
    assert found == Prices("CHF", node_hour=0.5, cpu_hour=0.0, gpu_hour=0.2)
    assert str(found) == "0.5 CHF a node-hour, 0.2 CHF a GPU-hour"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("node_hours: 1\nnode_hour: 2", "`prices.yaml`: `node_hours` is not known (did you mean `node_hour`?)"),
        ("node_hour: cheap", "`node_hour cheap`: must be a number"),
        ("node_hour: -1", "`node_hour -1`: must be at least 0"),
        ("node_hour: .nan", "`node_hour nan`: must be a finite number"),
        ("gpu_hour: 1\ncurrency: 5", "`currency 5`: must be text"),
        ("currency: EUR", "has no price: give one of node_hour, cpu_hour, gpu_hour"),
        ("node_hour: 0", "has no price"),
        ("", "must be a mapping such as `node_hour: 0.40`"),
        ("- 1", "must be a mapping"),
        ("a: [", "`prices.yaml`: not YAML"),
    ],
)
def test_what_is_no_price_is_refused(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read(written(tmp_path, text))
    assert told in str(caught.value)
    assert len(caught.value.problems) == 1
    assert problems(tmp_path, None, 1.0, 0.0) == list(caught.value.problems), "a job is refused, with a budget or not"


def test_a_budget_needs_prices(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, 5.0, 1.0, 0.0)
    assert problem.startswith("`--cost-budget 5`: there is no table of prices: write prices.yaml")
    assert problems(tmp_path, None, 1.0, 0.0) == []


@pytest.mark.parametrize(
    ("text", "cpus", "gpus", "refused"),
    [
        ("gpu_hour: 2", 1.0, 0.0, True),
        ("gpu_hour: 2", 1.0, 0.5, False),
        ("cpu_hour: 2", 0.0, 1.0, True),
        ("node_hour: 2", 0.0, 1.0, False),
    ],
)
def test_a_budget_that_nothing_uses_up_is_refused(
    text: str, cpus: float, gpus: float, refused: bool, tmp_path: Path
) -> None:
    found = problems(written(tmp_path, text), 5.0, cpus, gpus)
    assert [each for each in found if "costs nothing: give the price of what it uses" in each] == found
    assert bool(found) is refused
