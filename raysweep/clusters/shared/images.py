"""The kit's own images: those that `raysweep image` builds, unless a variable names another one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from raysweep import env, kit
from raysweep.clusters.shared import commands
from raysweep.errors import BadInput, ClusterError

IMAGES = {"raysweep": env.RAYSWEEP_IMAGE, "raysweep-store": env.RAYSWEEP_STORE_IMAGE}  # name -> variable
STAGES = {env.RAYSWEEP_IMAGE: "ray", env.RAYSWEEP_STORE_IMAGE: "store"}  # of docker/Dockerfile


def own_images() -> dict[str, str]:
    """Variable -> image."""
    return {variable: os.environ.get(variable) or f"{name}:local" for name, variable in IMAGES.items()}


def is_here(image: str) -> bool:
    """Whether this machine's Docker engine has an image."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0


def absent() -> list[str]:
    """A problem if this machine's Docker engine lacks one of the kit's own images."""
    missing = [image for image in own_images().values() if not is_here(image)]
    return [f"there is no image {' and '.join(missing)}: build them with `raysweep image`"] if missing else []


def stream(images: list[str], into: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Copies images from this machine's Docker engine to a program that reads them from its standard input.

    Nothing is kept on the way: neither a file of 7 GB nor as much memory. What the images share is sent once.

    Args:
        images: of this machine's Docker engine.
        into: the program, such as `ctr images import -` in a node.
        environment: of this program, instead of this process's.

    Raises:
        ClusterError: the images cannot be read, or the program failed.
    """
    with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as saved:
        assert saved.stdout
        assert saved.stderr
        try:
            commands.run(into, environment=environment, stdin=saved.stdout)
        except ClusterError as error:
            saved.stdout.close()  # or it would wait for a reader
            raise ClusterError(f"{error}{_said(saved.stderr.read())}") from error
        said = saved.stderr.read()
    if saved.returncode:
        raise commands.failure("`docker save` failed", said.decode(errors="replace"), "docker save")


def _said(said: bytes) -> str:
    text = said.decode(errors="replace").strip()
    return f"\n`docker save`, which it reads from, says: {commands.last_lines(text)}" if text else ""


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
