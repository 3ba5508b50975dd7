"""The Secrets of a Kubernetes target: Ray's token, the S3 store's own keys, and the keys of its users."""

from __future__ import annotations

import base64
from pathlib import Path

from raysweep.clusters.kubernetes.api import OURS
from raysweep.clusters.kubernetes.manifests import NAMESPACE, Object
from raysweep.clusters.shared import s3_keys
from raysweep.clusters.targets import Cluster


def objects(folder: Path, cluster: Cluster, has_role: bool = False) -> list[Object]:
    """Token and keys, from files on this machine that only their owner can read.

    Args:
        folder: has the keys of the cluster's own store, if the cluster has an endpoint.
        cluster: the cluster.
        has_role: whether its pods have a role for S3, and so need none of this user's own keys.
    """
    secrets = [_secret("raysweep-token", {"auth_token": Path(cluster.token_path).read_text()})]
    if cluster.endpoint:
        keys = _keys(folder)
        secrets += [
            _secret("raysweep-s3", {"credentials": keys[s3_keys.CREDENTIALS]}),
            _secret("raysweep-store", {"identities.json": keys[s3_keys.IDENTITIES]}),
        ]
    elif not has_role and (text := _own_credentials()):
        secrets.append(_secret("raysweep-s3", {"credentials": text}))
    return secrets


def _keys(folder: Path) -> dict[str, str]:
    """The store's keys; created only once, since the store's volume, which later clusters use again, has them too."""
    files = {name: folder / name for name in (s3_keys.IDENTITIES, s3_keys.CREDENTIALS)}
    if not all(path.exists() for path in files.values()):
        for name, text in s3_keys.new_keys().items():
            files[name].touch(mode=0o600)
            files[name].write_text(text)
    return {name: path.read_text() for name, path in files.items()}


def _own_credentials() -> str | None:
    """The user's long-term S3 keys; None if there are none, or only short-lived ones of a role."""
    import botocore.session

    keys = botocore.session.Session().get_credentials()
    if keys is None or keys.token:
        return None
    return f"[default]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = {keys.secret_key}\n"


def _secret(name: str, files: dict[str, str]) -> Object:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in files.items()}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": OURS}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
