"""The kit's own images: those that `make image` builds, unless a variable names another one."""

from __future__ import annotations

import os

from raysweep import env

IMAGES = {"raysweep": env.RAYSWEEP_IMAGE, "raysweep-store": env.RAYSWEEP_STORE_IMAGE}  # name -> variable


def own_images() -> dict[str, str]:
    """Variable -> image."""
    return {variable: os.environ.get(variable) or f"{name}:local" for name, variable in IMAGES.items()}
