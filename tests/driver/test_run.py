"""`raysweep.run`, as a notebook calls it."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from ray import tune

import raysweep
from raysweep.history import journal, results
from raysweep.spec.task import Task
from raysweep.storage import open_storage

SPACE = {"x": tune.uniform(0.0, 1.0)}


def train(config):
    for _ in raysweep.iterations():
        raysweep.report({"loss": config["x"]}, state={})


def process(config):
    raysweep.report({"loss": config["x"], "process": os.getpid()})


def threads(config):
    import torch

    raysweep.report({"loss": config["x"], "threads": torch.get_num_threads()})


ASKED = {"metric": "loss", "mode": "min", "samples": 2, "max_iterations": 2}


def test_it_takes_the_tutorials_names(private_ray, storage):
    first = {"x": 0.25}
    settings = {"cpus_per_trial": 1, "gpus_per_trial": 0, "points_to_evaluate": [first]}
    results = raysweep.run("asha", objective=train, config=SPACE, storage=storage, name="names", **ASKED, **settings)
    assert results.state.trials["00000"].config == first
    same = raysweep.run("asha", train, SPACE, points=[first], storage=storage, name="same", **ASKED)
    assert list(same.table["config/x"]) == list(results.table["config/x"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": train, "objective": train, "space": SPACE}, "`task` and `objective` are the same argument"),
        ({"task": train, "space": SPACE, "config": SPACE}, "`space` and `config` are the same argument"),
        ({"task": train, "space": SPACE, "points": [], "points_to_evaluate": []}, "`points` and `points_to_evaluate`"),
        ({"space": SPACE}, "`task` is missing"),
        ({"task": train}, "`space` must be given with a training function"),
        (
            {"task": train, "space": SPACE, "sampels": 3},
            "`sampels` is not an argument of run (did you mean `samples`?)",
        ),
    ],
)
def test_wrong_arguments_are_reported(arguments, message, storage):
    with pytest.raises(raysweep.BadInput) as caught:
        raysweep.run("asha", storage=storage, **ASKED, **arguments)
    assert message in str(caught.value)


def test_a_sweep_does_not_change_a_notebooks_random_numbers(private_ray, storage):
    def drawn():
        return random.random(), np.random.random()

    random.seed(1)
    np.random.seed(1)
    undisturbed = [drawn(), drawn()]
    random.seed(1)
    np.random.seed(1)
    first = drawn()
    raysweep.run("pbt", train, SPACE, storage=storage, name="draws", **ASKED)
    assert [first, drawn()] == undisturbed


@pytest.mark.parametrize("reuse", [True, False])
def test_a_task_may_require_a_process_for_each_trial(reuse, private_ray, storage):
    settings = ASKED | {"samples": 3, "concurrency": 1, "max_iterations": 1}
    results = raysweep.run(
        "random_search", process, SPACE, reuse_actors=reuse, storage=storage, name="reuse", **settings
    )
    assert results.table["process"].nunique() == (1 if reuse else 3)


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_trial_has_as_many_threads_as_cpus(cpus, private_ray, storage):
    if cpus > (os.cpu_count() or 1):
        pytest.skip("one CPU only")
    settings = ASKED | {"samples": 1, "max_iterations": 1, "cpus_per_trial": cpus}
    results = raysweep.run("random_search", threads, SPACE, storage=storage, name=f"threads-{cpus}", **settings)
    assert list(results.table["threads"]) == [cpus]


def test_a_dry_run_starts_nothing(storage):
    with pytest.raises(raysweep.BadInput, match="nothing was started"):
        raysweep.run("asha", Task("mine", train, SPACE, "loss", "min", 2), storage=storage, dry_run=True)


def line_lost(sweep):
    [segment] = (sweep / "journal").iterdir()
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:2], b"?\n", *lines[3:]]))
    return f"{segment}: line 3 is not as written, event 3 is lost"


def journal_emptied(sweep):
    [segment] = (sweep / "journal").iterdir()
    segment.write_bytes(b"")
    return f"{sweep}/journal is empty or missing, although there is checkpoints/ and trials.csv"


def journal_gone(sweep):
    shutil.rmtree(sweep / "journal")
    return f"{sweep}/journal is empty or missing, although there is checkpoints/ and trials.csv"


def spec_broken(sweep):
    (sweep / "sweep.json").write_text('{"name": "d')
    return f"{sweep}/sweep.json is not what a sweep writes"


def spec_gone(sweep):
    (sweep / "sweep.json").unlink()
    return f"{sweep}/sweep.json is missing, although there is checkpoints/ and journal/ and trials.csv"


def files_of(sweep):
    return {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", [line_lost, journal_emptied, journal_gone, spec_broken, spec_gone])
def test_a_damaged_sweep_is_refused_until_it_is_repaired(damage, private_ray, storage):
    def resumed(**flags):
        return raysweep.run("random_search", train, SPACE, storage=storage, name="d", **ASKED, **flags)

    before = resumed()
    sweep = Path(storage) / "d"
    said, left = damage(sweep), files_of(sweep)
    for resume in ("auto", "must"):
        with pytest.raises(raysweep.BadInput) as refused:
            resumed(resume=resume)
        [problem] = refused.value.problems
        assert problem.startswith(f"`--resume {resume}`: {said}: restore it from a backup, or ")
        assert problem.endswith("`--resume auto --repair`")
    with pytest.raises(raysweep.BadInput, match="sweep `d` exists in"):
        resumed(repair=True)
    assert files_of(sweep) == left
    after = resumed(resume="must", repair=True)
    assert after.damage == results.find(open_storage(after.url)).damage == ()
    assert list(after.table["status"]) == ["finished", "finished"]
    assert list(after.table["config/x"]) == list(before.table["config/x"])
    kept = {path: content for path, content in left.items() if path.parent.name == "journal"}
    assert files_of(sweep).items() >= kept.items(), "the evidence"


@pytest.mark.parametrize("begun", [False, True])
def test_a_repair_of_nothing_is_harmless(begun, private_ray, storage):
    settings = ASKED | {"storage": storage, "name": "sound", "resume": "auto", "repair": True}
    if begun:
        raysweep.run("random_search", train, SPACE, **settings)
    found = raysweep.run("random_search", train, SPACE, **settings)
    assert "repaired" not in [event["type"] for event in journal.read(open_storage(found.url))]
    assert list(found.table["status"]) == ["finished", "finished"]
