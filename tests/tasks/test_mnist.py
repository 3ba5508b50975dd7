import functools
import gzip
import hashlib
import http.server
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST, FashionMNIST

from raysweep.errors import BadInput
from tasks import _mnist_files, fashion_mnist, mnist
from tests.tasks.session import overlap, read_only
from tests.waiting import within

CONFIG = {"lr": 0.1, "momentum": 0.8, "l1": 256, "l2": 16}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """The four files of a tiny data set: a bright square whose place is the class, in noise."""
    files = {}
    for images, labels, count in ((0, 1, 1200), (2, 3, 200)):
        rng = np.random.default_rng(count)
        y = np.arange(count, dtype=np.uint8) % 10
        x = rng.integers(0, 120, (count, 28, 28), np.uint8)
        for picture, label in zip(x, y, strict=True):
            picture[2 * label : 2 * label + 8, 10:18] += 100
        files |= {_mnist_files.FILES[images]: idx(x), _mnist_files.FILES[labels]: idx(y)}
    return files


def write(folder: Path, contents: dict[str, bytes], gz: bool = False) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        Path(folder, f"{name}.gz" if gz else name).write_bytes(gzip.compress(content, 1) if gz else content)
    return folder


@pytest.fixture(scope="module")
def data(contents, tmp_path_factory):
    return read_only(mnist.load_data(write(tmp_path_factory.mktemp("mnist") / "idx", contents)))


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("folder", _mnist_files.FOLDERS)
def test_reads_every_layout(tmp_path, contents, data, folder, gz):
    root = tmp_path / "root"
    write(root / folder, contents, gz)

    again = mnist.load_data(root)

    for name in ("train", "val", "test"):
        assert np.array_equal(getattr(again, name).inputs, getattr(data, name).inputs)
        assert np.array_equal(getattr(again, name).labels, getattr(data, name).labels)


def test_reads_what_torchvision_reads(tmp_path, contents, data):
    write(tmp_path / "MNIST/raw", contents)
    test = MNIST(tmp_path, train=False)

    assert np.array_equal(data.test.inputs.reshape(-1, 28, 28), test.data.numpy())
    assert np.array_equal(data.test.labels, test.targets.numpy())


def test_parts_are_bytes_fixed_stratified_and_disjoint(data):
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [1100, 100, 200]
    assert data.train.inputs.dtype == np.uint8
    assert set(np.bincount(data.val.labels)) == {10}
    assert overlap(data.train, data.val) == overlap(data.train, data.test) == overlap(data.val, data.test) == 0


def test_learns_and_is_deterministic(session, data):
    reports = session.fresh(mnist, CONFIG, data, iterations=6)

    assert reports[-1]["val_accuracy"] >= 0.9
    assert reports[-1]["test_accuracy"] >= 0.9
    assert reports == session.fresh(mnist, CONFIG, data, iterations=6)


def test_resumed_trial_equals_uninterrupted(session, data):
    whole = session.fresh(mnist, CONFIG, data, iterations=4)
    weights = session.state["model"]

    session.fresh(mnist, CONFIG, data, iterations=4, stop_at=2)

    assert session.run(mnist, CONFIG, data, iterations=4) == whole
    assert all(torch.equal(weights[name], value) for name, value in session.state["model"].items())


@pytest.mark.parametrize("key", ["lr", "momentum"])
def test_changed_hyperparameter_takes_effect_after_resume(session, data, key):
    session.fresh(mnist, CONFIG, data, iterations=2, stop_at=1)
    session.run(mnist, {**CONFIG, key: 0.25}, data, iterations=2)

    (group,) = session.state["optimizer"]["param_groups"]
    assert group[key] == 0.25


def test_predict_takes_a_prepared_image(session, data):
    session.run(mnist, CONFIG, data, iterations=1)
    picture = mnist.prepare_image(Image.fromarray(data.test.inputs[0].reshape(28, 28)))

    probabilities = mnist.predict(CONFIG, session.state, picture)

    assert np.array_equal(picture[0], data.test.inputs[0])
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(mnist.predict(CONFIG, session.state, picture.astype(np.float32)), probabilities)


needs_debians_files = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason=f"no real Fashion-MNIST in {DEBIAN}: apt-get install dataset-fashion-mnist"
)


@needs_debians_files
def test_real_fashion_mnist():
    data = mnist.load_data(DEBIAN)

    assert data.train.inputs.shape == (55000, 784)
    assert set(np.bincount(data.val.labels)) == {500}
    assert set(np.bincount(data.test.labels)) == {1000}


def test_folder_without_the_files_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"`--data .*`: no four idx files \(train-images-idx3-ubyte, .*FashionMNIST/raw"):
        mnist.load_data(tmp_path)


@pytest.mark.parametrize("gz", [False, True])
def test_damaged_file_is_bad_input(tmp_path, contents, gz):
    root = write(tmp_path / "idx", contents, gz)
    (damaged,) = root.glob("train-images*")
    damaged.write_bytes(damaged.read_bytes()[:-1000])

    with pytest.raises(BadInput, match=r"`--data .*`: a damaged idx file in"):
        mnist.load_data(root)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "raysweep"


def refusal(task=mnist) -> str:
    with pytest.raises(BadInput) as caught:
        task.load_data(None)
    return str(caught.value)


def test_without_a_network_says_what_was_tried_and_the_fix(cache, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", "http://mirror.invalid/"])
    with within(5):
        message = refusal()

    assert str(cache) in message
    assert "http://127.0.0.1:9/ or http://mirror.invalid/" in message
    assert message.endswith("`--data DIR`")
    assert not cache.exists()


def test_mirror_that_never_answers_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(_mnist_files, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        assert "no answer from" in refusal()


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


def test_fashion_mnist_is_asked_for_by_its_own_name(cache, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])

    assert refusal(fashion_mnist).startswith(
        f"FashionMNIST is not in {cache}, and cannot be downloaded (no answer from"
    )


@pytest.fixture
def mirror(tmp_path, contents, monkeypatch) -> Path:
    """A folder that torchvision downloads MNIST from."""
    folder = write(tmp_path / "mirror", contents, gz=True)
    files = [folder / f"{name}.gz" for name in _mnist_files.FILES]
    resources = [(f.name, hashlib.md5(f.read_bytes()).hexdigest()) for f in files]
    for source in (MNIST, FashionMNIST):
        monkeypatch.setattr(source, "resources", resources)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=folder)) as server:
        for source in (MNIST, FashionMNIST):
            monkeypatch.setattr(source, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder
        server.shutdown()


def test_downloads_once_into_the_cache(cache, mirror, data, monkeypatch):
    first = mnist.load_data(None)
    monkeypatch.setattr(MNIST, "mirrors", [])
    second = mnist.load_data(None)

    assert np.array_equal(first.test.inputs, data.test.inputs)
    assert np.array_equal(second.test.inputs, data.test.inputs)
    assert [path.name for path in cache.iterdir()] == ["MNIST"]


def test_each_data_set_is_downloaded_to_a_folder_of_its_own(cache, mirror, data):
    clothes = fashion_mnist.load_data(None)
    assert [path.name for path in cache.iterdir()] == ["FashionMNIST"]  # not taken for MNIST
    mnist.load_data(None)

    assert np.array_equal(clothes.test.inputs, data.test.inputs)
    assert sorted(path.name for path in cache.iterdir()) == ["FashionMNIST", "MNIST"]


def test_download_cut_short_leaves_nothing_behind(cache, mirror):
    (mirror / f"{_mnist_files.FILES[3]}.gz").write_bytes(b"half of it")

    assert "cannot be downloaded" in refusal()
    assert not _mnist_files.find(cache)
    assert list(cache.iterdir()) == []
