"""Who began which epoch; from the third on, a trial waits while there is a file `hold`."""

import time
from pathlib import Path

from ray import tune

NOTES, HOLD = (Path(__file__).with_name(name) for name in ("epochs.txt", "hold"))


def note(epoch):
    with NOTES.open("a") as file:
        file.write(f"{tune.get_context().get_trial_id()} {epoch} {time.time()}\n")
    while epoch > 2 and HOLD.exists():
        time.sleep(0.02)
