"""raysweep: every tuning strategy of Ray Tune as a job, from a laptop to a GPU cluster.

The rooms, each of which imports only those below it (docs/architecture.md has a drawing):

cli, job_commands, study_commands, view_commands, sweep_commands, advice_commands, local_commands
                the command line of the kit; `python jobs/asha.py` is that of a job
advice          which strategy to choose, and why
driver, submit  runs a sweep; sends jobs to a cluster
study           what sweeps say together: recorded, simulated, compared and verified
viewing         looking at a sweep: in the terminal, and in a browser
loop, clusters  the main loop of a sweep; the targets on which Ray runs
reporting       the page of a sweep
trial           a trial's process
history         journal, checkpoints, lease, results
spec            flags, task, space, sweep
storage         a folder or S3
env, errors, values, temporary, user_code, kit, ray_private, optuna_quiet, sealed    for all of them
"""

from typing import TYPE_CHECKING

from raysweep.errors import BadInput, RaysweepError, StorageError, SweepFailed
from raysweep.spec.flags import Flags, knob

if TYPE_CHECKING:
    from raysweep.driver.main import main
    from raysweep.driver.run import run
    from raysweep.history.results import SweepResults
    from raysweep.loop.optuna_search import OptunaSearch
    from raysweep.loop.random_grid_search import Variants
    from raysweep.spec.sweep import Sweep
    from raysweep.trial.script import script
    from raysweep.trial.session import iterations, report, resume, resume_folder

__all__ = [
    "BadInput",
    "Flags",
    "OptunaSearch",
    "RaysweepError",
    "StorageError",
    "Sweep",
    "SweepFailed",
    "SweepResults",
    "Variants",
    "iterations",
    "knob",
    "main",
    "report",
    "resume",
    "resume_folder",
    "run",
    "script",
]

_LAZY = {
    "OptunaSearch": "raysweep.loop.optuna_search",
    "Sweep": "raysweep.spec.sweep",
    "SweepResults": "raysweep.history.results",
    "Variants": "raysweep.loop.random_grid_search",
    "iterations": "raysweep.trial.session",
    "main": "raysweep.driver.main",
    "report": "raysweep.trial.session",
    "resume": "raysweep.trial.session",
    "resume_folder": "raysweep.trial.session",
    "run": "raysweep.driver.run",
    "script": "raysweep.trial.script",
}


def __getattr__(name: str) -> object:
    """Imports a part on first use: a worker needs no Optuna, and `raysweep --help` needs no Ray."""
    import importlib

    if name not in _LAZY:
        raise AttributeError(f"module 'raysweep' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
