"""`raysweep.run`, as a notebook calls it."""

import functools
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from ray import tune

import raysweep
from raysweep.driver.runner import code_hash
from raysweep.history import journal, results
from raysweep.spec.sweep import strategy as load_strategy
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


ANOTHER = "give a function `train(config)` that calls raysweep.report"
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


def dry(task=train, space=SPACE, strategy="asha", **arguments):
    """What is wrong with a run, each problem by itself; nothing is started."""
    with pytest.raises(raysweep.BadInput) as caught:
        raysweep.run(strategy, task, space, dry_run=True, **{**ASKED, **arguments})
    return [] if caught.value.problems == FINE else list(caught.value.problems)


FINE = ("`dry_run`: no problems found, nothing was started",)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"resume": False}, "`resume=False`: must be 'never', 'auto' or 'must'"),
        ({"nan": "ignore"}, "`nan=ignore`: must be 'stop', 'fail' or 'worst'"),
        ({"samples": 2.5}, "`samples=2.5`: must be a whole number"),
        ({"samples": np.int64(0)}, "`samples=0`: must be at least 1"),
        ({"samples": np.array([1, 2])}, "`samples=[1 2]`: must be a whole number"),
        ({"max_failures": None}, "`max_failures=None`: must be a whole number"),
        ({"seed": True}, "`seed=True`: must be a whole number"),
        ({"seed": None}, "`seed=None`: must be a whole number"),
        ({"trial_timeout": True}, "`trial_timeout=True`: must be a number"),
        ({"time_budget": 1e300}, "`time_budget=1e+300`: must be at most 1000000000"),
        ({"cpus_per_trial": float("nan")}, "`cpus_per_trial=nan`: must be a finite number"),
        ({"dry_run": None}, "`dry_run=None`: must be True or False"),
        ({"storage": 5}, "`storage=5`: must be text"),
        ({"name": 5}, "`name=5`: must be text"),
        ({"name": ""}, "`name=`: a name is one folder of the storage: use letters, digits, - and _"),
        ({"metric": 5}, "`metric=5`: must be text"),
        ({"points": {}}, "`points {}`: must be a list"),
        ({"points": "x"}, "`points x`: must be a list"),
        ({"points": [{"y": 1}]}, "`points[0]`: `y` is not in the search space"),
        ({"knobs": [1]}, "`knobs [1]`: must be a dictionary"),
        ({"knobs": {"grace_period": None}}, "`grace_period=None`: must be a whole number"),
        ({"space": [1]}, "`task=train`: `SPACE [1]`: must be a dictionary"),
        ({"mutable": "x"}, "`task=train`: `MUTABLE x`: must be a tuple"),
        ({"reuse_actors": "no!"}, "`task=train`: `REUSE_ACTORS no!`: must be True or False"),
        ({"data": [1]}, "`data` is given, and `train` does not take it: add a parameter `data` to it, or leave it out"),
        ({"task": 5}, "`train` of task int is of type int, which cannot be called: " + ANOTHER),
        ({"task": dict}, "`train` of task dict is a class, which is made when it is called, and not run: " + ANOTHER),
    ],
)
def test_what_is_wrong_is_told_in_pythons_spelling(arguments, told, storage):
    arguments = {"storage": storage} | arguments
    if "dry_run" in arguments:
        with pytest.raises(raysweep.BadInput) as caught:
            raysweep.run("asha", train, SPACE, **ASKED, **arguments)
        assert caught.value.problems == (told,)
    else:
        assert dry(**arguments) == [told]


@pytest.mark.parametrize(
    "arguments",
    [
        {"samples": np.int64(3), "seed": np.uint8(1), "cpus_per_trial": np.float32(0.5)},
        {"samples": "5"},
        {"samples": None, "points": []},
        {"points": ({"x": 0.5},), "mutable": ["x"], "reuse_actors": False},
        {"knobs": {}, "concurrency": None},
        {"task": "quadratic", "space": None, "metric": None, "mode": None},
        {"task": Task("of mine/too", train, SPACE, "loss", "min", 2), "space": None},
        {"task": lambda config: train(config)},
    ],
)
def test_what_is_right_is_not_refused(arguments, tmp_path):
    assert dry(storage=tmp_path, **arguments) == []


def test_everything_is_told_at_once(storage):
    told = dry(
        task="digit", space=None, samples=0, sampels=3, seed=None, knobs={"grace": 1, "grace_period": 0},
        storage=storage, objective="digit",
    )  # fmt: skip
    assert [problem.split("`")[1] for problem in told] == [
        "task", "sampels", "samples=0", "seed=None", "grace", "grace_period=0", "task=digit",
    ]  # fmt: skip
    told = dry(points=[{"y": 1}], samples=0, knobs={"grace_period": 9, "reduction_factor": 1}, storage=storage)
    assert [problem.split("`")[1] for problem in told] == [
        "samples=0",
        "reduction_factor=1",
        "points[0]",
        "grace_period=9",
    ]


@pytest.mark.parametrize("task", ["quadratic", Task("quadratic", train, SPACE, "loss", "min", 2)])
def test_what_only_a_function_needs_is_refused_with_a_task(task, storage):
    told = dry(task, None, config=SPACE, mutable=("x",), data=[1], reuse_actors=True, storage=storage)
    assert told == [
        f"`{name}` is for a training function: task quadratic has its own: leave it out"
        for name in ("space", "mutable", "data", "reuse_actors")
    ]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_task_gets_the_folder_of_its_data(kind, private_ray, storage, tmp_path):
    (tmp_path / "value").write_text("3")

    def load(root):
        return float((root / "value").read_text())

    task = Task("folder", lambda config, data: raysweep.report({"loss": data}), SPACE, "loss", "min", 1, load_data=load)
    found = raysweep.run("random_search", task, data=kind(tmp_path), samples=1, storage=storage, name="with_data")
    assert found.best["loss"] == 3


class Trainer:
    def __init__(self, scale=1.0):
        self.scale = scale

    def __call__(self, config, data):
        raysweep.report({"loss": self.scale * config["x"], "data": data})

    def method(self, config, augment=True):
        raysweep.report({"loss": self.scale * config["x"], "data": str(augment)})


def with_dataset(config, augment=True, *, dataset):
    raysweep.report({"loss": config["x"], "data": dataset + str(augment)})


def traced(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


FORMS = {
    "object": (Trainer(), "D", "D", "Trainer"),
    "method": (Trainer().method, None, "True", "method"),
    "partial": (functools.partial(with_dataset, augment=False), "D", "DFalse", "with_dataset"),
    "decorated": (traced(with_dataset), "D", "DTrue", "with_dataset"),
    "lambda": (lambda config, data: Trainer()(config, data), "D", "D", "lambda"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_function_of_every_form_runs_with_its_data(form, private_ray, storage):
    function, data, told, name = FORMS[form]
    results = raysweep.run("random_search", function, SPACE, data=data, storage=storage, **ASKED)
    assert list(results.table["data"]) == [told, told]
    assert Path(results.url).name.startswith(f"{name}-random_search-")
    assert results.spec["task"] == name
    assert results.spec["code"] == code_hash(train, load_strategy("random_search").tune_config)


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
        assert problem.startswith(f"`resume={resume}`: {said}: restore it from a backup, or ")
        assert problem.endswith("`resume=auto repair`")
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


def test_failed_trials_are_tried_again_on_request(private_ray, storage, tmp_path, capsys):
    """From their last checkpoints; without the request a resume only says that they failed."""
    broken = tmp_path / "broken"
    broken.touch()

    def breaks(config, broken=str(broken)):
        for iteration in raysweep.iterations():
            if iteration == 2 and config["x"] > 0.6 and Path(broken).exists():
                raise ValueError("a file is in the way")
            raysweep.report({"loss": config["x"]}, state=raysweep.resume() or iteration)

    def again(**more):
        return raysweep.run(
            "random_search", breaks, SPACE, metric="loss", mode="min", max_iterations=2, samples=3, storage=storage,
            name="r", **more,
        )  # fmt: skip

    with pytest.raises(raysweep.SweepFailed, match="2 trials failed; the first, trial 00001:"):
        again()
    broken.unlink()
    with pytest.raises(raysweep.SweepFailed, match="2 trials failed"):
        again(resume="must")
    said = "2 trials failed before (exception 2), and are not tried again: --retry failed does so"
    assert said in capsys.readouterr().out
    with pytest.raises(raysweep.BadInput, match="`retry=failed` is for a sweep that is continued: add resume must"):
        again(retry="failed")
    found = again(resume="must", retry="failed")
    assert found.state.count("finished") == 3
    assert [(len(trial.results), trial.retried) for trial in found.state.trials.values()] == [(2, 0), (2, 1), (2, 1)]
