"""A sweep in somebody's process leaves that process as it was: Ray, logging, random numbers, environment, modules."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray_project import clean_environment
from tests.waiting import PATIENCE_S

# What is looked at before and after; what differs is printed, a line each.
LOOK = """
import logging, os, random, signal, sys, warnings
import joblib  # sets KMP_INIT_AT_FORK when it is imported
import numpy as np
import optuna
import ray
from ray import tune
from ray.tune.execution import class_cache

OF_RAY_INIT = {"RAY_USAGE_STATS_ENABLED", "PYTHONBREAKPOINT"}  # what ray.init itself sets; and its handler of SIGTERM

def modules_of_ray():
    return {
        f"{name}.{key}": id(value)
        for name, module in list(sys.modules.items()) if name.startswith(("ray.tune", "ray.air", "ray.train"))
        for key, value in vars(module).items() if not key.startswith("__")
    }

def look():
    loggers = {name: each for name, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    return {
        "ray": modules_of_ray(),
        "class_cache": set(class_cache.ENV_VARS_TO_PROPAGATE),
        "levels": {name: each.level for name, each in loggers.items()} | {"root": logging.root.level},
        "optuna": optuna.logging.get_verbosity(),
        "environment": {k: v for k, v in os.environ.items() if k not in OF_RAY_INIT},
        "python's draws": hash(random.getstate()),
        "numpy's draws": hash(np.random.get_state()[1].tobytes()),
        "path": list(sys.path),
        "arguments": list(sys.argv),
        "modules": {name: id(module) for name, module in sys.modules.items()},
        "SIGINT": id(signal.getsignal(signal.SIGINT)),
        "warnings": {str(each): True for each in warnings.filters},
    }

def compare(before, after):
    for what, was in before.items():
        now = after[what]
        if isinstance(was, dict):  # what is new may be there, nothing else may have changed
            changed = [key for key in was if now.get(key, "gone") != was[key]]
            if what == "environment":
                changed += [key for key in now if key not in was]
            for key in changed:
                print("CHANGED", what, key)
        elif now != was:
            print("CHANGED", what, was, now)
    print(*("NONE " + name for name, module in sys.modules.items() if module is None), sep="\\n")
"""

SWEEP = """
import raysweep

def train(config):
    for _ in raysweep.iterations():
        if config["x"] > limit:
            raise ValueError("too much")
        raysweep.report({"loss": config["x"]}, state=1)

def run(strategy, name, **more):
    asked = {"metric": "loss", "mode": "min", "samples": 3, "max_iterations": 3, "storage": sys.argv[1], **more}
    return raysweep.run(strategy, train, {"x": tune.uniform(0, 1)}, name=name, **asked)
"""

ENDED = """
for strategy in ("asha", "pbt", "tpe"):
    run(strategy, strategy)
"""

FAILED = """
for name, wrong in (("failed", {}), ("bad", {"samples": 0}), ("failed", {})):
    try:
        run("tpe_asha", name, **wrong)
    except raysweep.RaysweepError as error:
        print("FAILED AS IT SHOULD", type(error).__name__)
"""

TUNER = """
def plain(config):
    tune.report({"loss": config["x"]})

found = tune.Tuner(
    plain, param_space={"x": tune.grid_search([1, 2])}, run_config=tune.RunConfig(storage_path=sys.argv[1], verbose=0)
).fit()
print("PLAIN", sorted(result.metrics["loss"] for result in found))
"""


def run(script, folder):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(folder)],
        cwd=folder, env=clean_environment(folder) | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S, check=False,
    ).stdout  # fmt: skip


def changes(output):
    return [line for line in output.splitlines() if line.startswith(("CHANGED", "NONE ", "Traceback"))]


def test_importing_it_changes_nothing(tmp_path):
    touched = "import raysweep\nfor name in raysweep.__all__:\n    getattr(raysweep, name)\n"
    output = run(f"{LOOK}\nbefore = look()\n{touched}\ncompare(before, look())\nprint('END')", tmp_path)
    assert changes(output) == []
    assert "END" in output, output


@pytest.mark.parametrize(("limit", "work"), [(2.0, ENDED), (0.0, FAILED)], ids=["ended", "failed"])
def test_a_sweep_changes_nothing_and_a_plain_tuner_runs_after_it(tmp_path, limit, work):
    script = f"{LOOK}{SWEEP}\nlimit = {limit}\nbefore = look()\n{work}\ncompare(before, look())\n{TUNER}"
    output = run(script, tmp_path)
    assert changes(output) == []
    assert "PLAIN [1, 2]" in output, output
    assert (output.count("FAILED AS IT SHOULD") == 3) == (work is FAILED), output
