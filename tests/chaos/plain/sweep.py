"""The sweep, as one file: a job of a cluster is this file alone."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from raysweep.storage import open_storage

SAMPLES, ITERATIONS, AT = 8, 9, 3
EAT = "armed/eat"
INSIDE = {
    "exception": "raise", "exception-charged": "raise", "trial-memory": "memory", "nan": "nan", "trial-hung": "hang",
}  # fmt: skip


def train(config: dict[str, Any]) -> None:
    """The bowl, as a function trainable."""
    import ctypes

    from ray import tune

    notes = open_storage(config["notes"])
    path, height = [], 1.0
    if saved := tune.get_checkpoint():
        with saved.as_directory() as place:
            path, height = json.loads((Path(place) / "state.json").read_text())
    for iteration in range(len(path) + 1, ITERATIONS + 1):
        step = (time.time_ns(), tune.get_context().get_trial_id(), iteration, os.getpid(), platform.node())
        notes.put(",".join(map(str, step)), b"")
        time.sleep(config["pace_s"])
        height *= config["pace"]
        path.append(iteration)
        loss = (config["x"] - 1) ** 2 + (config["y"] + 2) ** 2 + height
        if notes.exists(EAT):
            notes.delete(EAT)
            eaten = []
            while True:
                eaten.append(bytearray(os.urandom(1 << 20)) * 64)  # touched, so that it counts
                time.sleep(0.1)  # the monitor looks four times a second
        for fault in INSIDE.values():
            if iteration != AT or not notes.exists(f"armed/{fault}"):
                continue
            notes.delete(f"armed/{fault}")
            if fault == "raise":
                raise ValueError("the data is upside down")
            if fault == "memory":
                bytearray(1 << 60)
            if fault == "hang":
                ctypes.PyDLL(None).sleep(3600)
            loss = float("nan")
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "state.json").write_text(json.dumps([path, height]))
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(place))


def drive(notes: str, storage: str, cpus: str, pace_s: str, failures: str = "0") -> None:
    """The driver, which restores the sweep if there is one.

    Args:
        notes: storage where trials note their steps.
        storage: Ray's storage_path; an S3 URL may have a query.
        cpus: of a trial.
        pace_s: of an iteration, in seconds.
        failures: of a trial, after which it is given up.
    """
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    private = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": 2, "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level="ERROR", **private)
    space = {
        "x": tune.uniform(-5.0, 5.0), "y": tune.uniform(-5.0, 5.0), "pace": tune.choice([0.5, 0.7, 0.9]),
        "notes": notes, "pace_s": float(pace_s),
    }  # fmt: skip
    trainable = tune.with_resources(train, {"cpu": float(cpus)})
    place, mark, query = storage.partition("?")
    if tune.Tuner.can_restore(sweep := f"{place}/sweep{mark}{query}"):
        tuner = tune.Tuner.restore(sweep, trainable, resume_unfinished=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="loss", mode="min", scheduler=ASHAScheduler(max_t=ITERATIONS), num_samples=SAMPLES
            ),
            run_config=tune.RunConfig(
                name="sweep", storage_path=storage, verbose=0,
                failure_config=tune.FailureConfig(max_failures=int(failures)),
            ),
        )  # fmt: skip
    found = tuner.fit()
    lost = sum(not _whole(result.checkpoint) for result in found)
    print("found", json.dumps({"results": len(found), "errors": found.num_errors, "lost": lost}), flush=True)


def _whole(checkpoint: Any) -> bool:
    """Whether a trial's last checkpoint is there and can be read."""
    try:
        with checkpoint.as_directory() as place:
            return bool(json.loads((Path(place) / "state.json").read_text()))
    except (OSError, ValueError, AttributeError):  # none, or not the one that was reported
        return False


if __name__ == "__main__":
    drive(*sys.argv[1:])
