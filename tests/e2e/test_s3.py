"""A sweep whose storage is a bucket, on a real S3 server behind a proxy that can make it fail."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from PIL import Image
from sklearn.datasets import load_digits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raysweep.history import checkpoint, journal
from raysweep.history.sweep_state import SweepState
from raysweep.storage import open_storage
from tests import s3
from tests.e2e.sweeps import add_task, submit
from tests.ray_project import Project, make_project

SAMPLES = 4

# A state of two parts: 8 MiB travel in one request. The loss is the same in all iterations, so a trial's first
# checkpoint is its best; with the last two, all three are kept.
HEAVY_TASK = """
import numpy as np

import raysweep
from ray import tune

SPACE = {"x": tune.uniform(0.0, 1.0)}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 3


def train(config):
    for iteration in raysweep.iterations():
        state = np.random.default_rng(iteration).bytes(9 * 2**20)
        raysweep.report({"loss": config["x"]}, state=state)
"""


@pytest.fixture(scope="module")
def proxy(s3_server: s3.S3Server) -> Iterator[s3.S3Proxy]:
    with s3.running_s3_proxy(s3_server) as running:
        yield running


@pytest.fixture(scope="module")
def project(proxy: s3.S3Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A cluster whose jobs have the store's endpoint and credentials, as its environment had them."""
    made = make_project(tmp_path_factory.mktemp("s3"))
    made.env |= proxy.env
    with made.running():
        yield made


@pytest.fixture(scope="module")
def digits(project: Project, proxy: s3.S3Proxy) -> tuple[str, subprocess.CompletedProcess[str]]:
    """The url of a storage that holds the finished sweep `digits`, and what the command printed."""
    storage = f"{proxy.new_bucket()}/some/prefix"
    done = submit(
        project, "tpe_asha", "--task", "digits", "--storage", storage, "--name", "digits",
        "--samples", str(SAMPLES), "--max-iterations", "3",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return storage, done


@pytest.fixture
def objects(digits: tuple[str, Any], proxy: s3.S3Proxy) -> dict[str, bytes]:
    """Every object of the bucket, read without the product: its key from the sweep's folder on, and its bytes."""
    bucket, _, prefix = digits[0].removeprefix("s3://").partition("/")
    client = proxy.backend.client
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert all(key.startswith(f"{prefix}/digits/") for key in keys)
    return {
        key.removeprefix(f"{prefix}/digits/"): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys
    }


def test_everything_is_an_object(objects: dict[str, bytes], tmp_path: Path) -> None:
    segments = [body for key, body in sorted(objects.items()) if key.startswith("journal/")]
    events = [json.loads(line) for body in segments for line in body.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    trials = SweepState(events).trials
    assert len(trials) == SAMPLES
    assert json.loads(objects["sweep.json"])["samples"] == SAMPLES
    assert len(pd.read_csv(io.BytesIO(objects["trials.csv"]))) == SAMPLES
    best = json.loads(objects["best.json"])
    assert f"{best['checkpoint']}/state.pkl" in objects
    assert {key.split("/")[1] for key in objects if key.startswith("checkpoints/")} == set(trials)

    for key in ("optuna.log", *(key for key in objects if key.startswith("tensorboard/"))):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(objects[key])
    (study,) = optuna.get_all_study_summaries(JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log"))))
    assert study.n_trials == SAMPLES
    for name, trial in trials.items():
        scalars = EventAccumulator(str(tmp_path / "tensorboard" / name)).Reload().Scalars("val_accuracy")
        assert [scalar.step for scalar in scalars] == list(trial.results)


def test_no_secret_is_written_anywhere(
    objects: dict[str, bytes], digits: tuple[str, Any], project: Project, proxy: s3.S3Proxy
) -> None:
    secrets = [proxy.access_key, proxy.secret_key, project.token]
    logs = {str(path): path.read_bytes() for path in Path(project.cluster.temp_dir).rglob("*") if path.is_file()}
    written = objects | logs | {"the command": digits[1].stdout.encode()}
    assert any("job-driver-" in name for name in logs)
    assert [(name, secret) for name, body in written.items() for secret in secrets if secret.encode() in body] == []


def test_results_and_predict_read_it(digits: tuple[str, Any], project: Project, tmp_path: Path) -> None:
    pixels, labels = load_digits(return_X_y=True)
    Image.fromarray((pixels[0].reshape(8, 8) * (255 / 16)).astype(np.uint8)).save(tmp_path / "digit.png")
    shown = project.run("results", "digits", "--storage", digits[0])
    predicted = project.run("predict", "digits", "--storage", digits[0], "--image", str(tmp_path / "digit.png"))
    assert (shown.returncode, predicted.returncode) == (0, 0), shown.stdout + predicted.stdout
    assert f"results in {digits[0]}/digits: trials.csv" in shown.stdout
    assert predicted.stdout.startswith(f"class {labels[0]}  probability ")


def test_a_failing_store_loses_no_checkpoint(
    project: Project, proxy: s3.S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_task(project, "heavy", HEAVY_TASK)
    storage = proxy.new_bucket()
    proxy.refuse("PutObject", key="journal/", nth=2, status=503)
    proxy.refuse("GetObject", key="state.pkl", nth=2, status=503)
    proxy.refuse("UploadPart", key="state.pkl", nth=4, status=403)  # this save fails, and so does the trial
    proxy.lose("UploadPart", key="state.pkl", nth=9, keep=1000)  # this one looks well, and what is made of it is not
    faults = list(proxy.faults)
    done = submit(
        project, "random_search", "--task", "heavy", "--storage", storage, "--name", "heavy",
        "--samples", "2", "--max-failures", "2",
    )  # fmt: skip
    proxy.heal()
    assert done.returncode == 0, done.stdout
    assert all(fault.seen >= fault.nth for fault in faults)

    s3.use(proxy.backend, monkeypatch)
    place = open_storage(storage).child("heavy")
    state = SweepState(journal.read(place))
    errors = [error for trial in state.trials.values() for error in trial.failures]
    assert len(errors) == 2
    assert any("no permission (AccessDenied)" in error for error in errors)
    for trial in state.trials.values():
        registered = [result.checkpoint for result in trial.results.values()]
        assert len(registered) == 3
        assert registered == checkpoint.verified(place, trial.id)
        done_once = [e["iteration"] for e in state.events if e["type"] == "result" and e["trial"] == trial.id]
        assert done_once == [1, 2, 3]
