"""`raysweep watch` on a sweep that begins, `results` and `predict` on the finished one, by the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from raysweep.history.results import read
from tests.e2e.sweeps import submit
from tests.ray_project import Project
from tests.tasks.test_mnist import DEBIAN, needs_debians_files
from tests.waiting import PATIENCE_S

SAMPLES = 4


@pytest.fixture(scope="module")
def storage(local_cluster: Project, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with one finished sweep, `digits`, that was watched from before its beginning."""
    folder = str(tmp_path_factory.mktemp("commands"))
    sent = submit(
        local_cluster, "random_search", "--task", "digits", "--storage", folder, "--name", "digits",
        "--samples", str(SAMPLES), "--max-iterations", "5", "--no-follow",
    )  # fmt: skip
    assert sent.returncode == 0, sent.stdout
    watched = local_cluster.run("watch", "digits", "--storage", folder, seconds=PATIENCE_S)
    assert watched.returncode == 0, watched.stdout
    assert f"{SAMPLES} of {SAMPLES} ended" in watched.stdout
    return folder


def test_results_shows_the_trials_best_first(local_cluster: Project, storage: str) -> None:
    shown = local_cluster.run("results", "digits", "--storage", storage)
    assert shown.returncode == 0, shown.stdout
    header, *rows = shown.stdout.splitlines()[: SAMPLES + 1]
    scores = [float(row.split()[header.split().index("val_accuracy")]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert f"trials: {SAMPLES} finished\nbest val_accuracy {scores[0]:g}" in shown.stdout
    _, row = local_cluster.run("results", "--storage", storage).stdout.splitlines()
    assert row.split()[:4] == ["digits", "random_search", "digits", str(SAMPLES)]


def test_predict_reads_digits(local_cluster: Project, storage: str, tmp_path: Path) -> None:
    pixels, labels = load_digits(return_X_y=True)
    Image.fromarray((pixels[0].reshape(8, 8) * (255 / 16)).astype(np.uint8)).save(tmp_path / "digit.png")
    np.save(tmp_path / "digits.npy", pixels[:50])
    predict = ("predict", "digits", "--storage", storage)

    one = local_cluster.run(*predict, "--image", str(tmp_path / "digit.png"))
    many = local_cluster.run(*predict, "--array", str(tmp_path / "digits.npy"))
    assert (one.returncode, many.returncode) == (0, 0), one.stdout + many.stdout
    both = local_cluster.run(*predict, "--image", str(tmp_path / "digit.png"), "--array", str(tmp_path / "digits.npy"))
    assert both.returncode == 2
    assert "one at a time" in both.stdout
    classes = [int(line.split()[1]) for line in many.stdout.splitlines()]
    assert np.mean(classes == labels[:50]) > 0.8
    assert one.stdout.startswith(f"class {classes[0]}  probability 0.")


@pytest.mark.parametrize("command", ["results", "predict"])
def test_a_missing_name_is_told_with_the_nearest_one(command: str, local_cluster: Project, storage: str) -> None:
    missing = local_cluster.run(command, "digtis", "--storage", storage)
    assert missing.returncode == 2
    assert missing.stdout.startswith(f"error: there is no sweep `digtis` in {storage} (did you mean `digits`?)")
    assert len(missing.stdout.splitlines()) == 1


@needs_debians_files
def test_real_fashion_mnist_as_a_job(local_cluster: Project, tmp_path: Path) -> None:
    done = submit(
        local_cluster, "random_search", "--task", "fashion_mnist", "--data", str(DEBIAN), "--storage", str(tmp_path),
        "--name", "clothes", "--samples", "2", "--max-iterations", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    found = read("clothes", str(tmp_path))
    assert found.state.count("finished") == 2
    assert found.best is not None
    assert found.best["val_accuracy"] > 0.75
