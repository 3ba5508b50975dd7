"""The package `raysweep` as a ConfigMap for the resubmitter: no image contains the kit's code."""

from __future__ import annotations

import base64
import io
import zipfile

from raysweep import kit
from raysweep.clusters.kubernetes.api import OURS
from raysweep.clusters.kubernetes.manifests import NAMESPACE, Object

NAME = "raysweep-package"
ARCHIVE = "raysweep.zip"  # Python imports from it; about 0.2 MB; a ConfigMap may have 1 MB
EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same code gives the same archive, whenever it was checked out


def package_map() -> Object:
    """The ConfigMap with the package `raysweep`, in this version."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(kit.PACKAGE.rglob("*.py")):
            entry = zipfile.ZipInfo(path.relative_to(kit.PACKAGE.parent).as_posix(), EPOCH)
            file.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    data = {ARCHIVE: base64.b64encode(archive.getvalue()).decode()}
    metadata = {"name": NAME, "namespace": NAMESPACE, "labels": OURS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": data}
