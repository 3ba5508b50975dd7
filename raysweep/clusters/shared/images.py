"""The kit's own images: those that `raysweep image` builds, unless a variable names another one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from raysweep import env, kit
from raysweep.clusters.shared import commands
from raysweep.errors import BadInput, ClusterError

IMAGES = {"raysweep": env.RAYSWEEP_IMAGE, "raysweep-store": env.RAYSWEEP_STORE_IMAGE}  # name -> variable
STAGES = {env.RAYSWEEP_IMAGE: "ray", env.RAYSWEEP_STORE_IMAGE: "store"}  # of docker/Dockerfile


def own_images() -> dict[str, str]:
    """Variable -> image."""
    return {variable: os.environ.get(variable) or f"{name}:local" for name, variable in IMAGES.items()}


def build(base: str | None, certificates: Path | None) -> None:
    """Builds both images by `docker build`, from the kit's docker/Dockerfile and its lock.

    Args:
        base: the image that they begin with; None for that of the Dockerfile.
        certificates: to trust while they are built, behind a TLS proxy; they stay out of the images.

    Raises:
        BadInput: there is no docker, or no such file.
        ClusterError: the build failed; its output says why.
    """
    if shutil.which("docker") is None:
        raise BadInput("`docker` is not installed: see https://docs.docker.com/engine/install")
    if certificates and not os.access(certificates, os.R_OK):
        raise BadInput(f"`--ca-bundle {certificates}`: cannot be read: name a file of certificates")
    flags = ["--file", str(kit.HOME / "docker" / "Dockerfile")]
    flags += ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    flags += ["--secret", f"id=ca,src={certificates}"] if certificates else []
    for variable, image in own_images().items():
        command = ["docker", "build", *flags, "--target", STAGES[variable], "--tag", image, str(kit.HOME)]
        if (code := subprocess.call(command, env=os.environ | {env.DOCKER_BUILDKIT: "1"})) != 0:
            raise ClusterError(f"`docker build` of {image} failed with exit code {code}")


def copy(images: list[str], node: list[str]) -> None:
    """Copies images from this machine's Docker into a node's containerd, as one stream.

    There is no file in between, no memory of their size is taken, and layers that they share go once.

    Args:
        images: that are in this machine's Docker.
        node: the command that runs a program in the node, and passes on what it reads: `docker exec -i NODE`.

    Raises:
        ClusterError: Docker cannot save them, or containerd cannot take them; with the reason.
    """
    into = [*node, "ctr", "--namespace=k8s.io", "images", "import", "--digests", "-"]
    with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
        commands.run(into, stdin=saved.stdout)
    if saved.returncode:
        raise ClusterError(f"`docker save` of {' and '.join(images)} failed; its output above says why")
