"""The image of `make image` without torch and CUDA: loaded in a quarter of the time, and it runs the task quadratic."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

FULL, SMALL = "raysweep:local", "raysweep-without-torch:test"
LEFT_OUT = "nvidia triton torch torchvision"


@contextlib.contextmanager
def small_image() -> Iterator[str]:
    """Builds it; removes it afterwards."""
    try:
        subprocess.run(["docker", "build", "--quiet", "--tag", SMALL, "-"], input=_dockerfile(), text=True, check=True)
        yield SMALL
    finally:
        subprocess.run(["docker", "image", "rm", "--force", SMALL], check=False)


def _dockerfile() -> str:
    """All files in one layer, since a removed file of an earlier layer is sent with it; the settings are the same."""
    inspected = subprocess.run(["docker", "image", "inspect", FULL], capture_output=True, text=True, check=True)
    config = json.loads(inspected.stdout)[0]["Config"]
    names = (each.partition("=") for each in config["Env"])
    lines = [
        f"FROM {FULL} AS full",
        "USER 0",
        f"RUN cd /opt/venv/lib/python3*/site-packages && rm -rf {LEFT_OUT}",
        "FROM scratch",
        "COPY --from=full / /",
        *(f"ENV {name}={json.dumps(value)}" for name, _, value in names),
        f"USER {config['User']}",
        f"WORKDIR {config['WorkingDir']}",
        f"CMD {json.dumps(config['Cmd'])}",
    ]
    return "\n".join(lines) + "\n"
