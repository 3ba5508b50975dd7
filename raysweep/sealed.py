"""A job's own variables, which only its processes can read: they travel sealed with the cluster's token.

Ray shows a job's runtime environment to whoever looks: in its list of jobs, its dashboard, the logs of its agents on
each node, the environment of the driver. So the values of `--env` are not in it, but one variable with all of them,
encrypted. The token opens it, which each process of a cluster has anyway. Whoever has the token may run jobs there, and
so could read the values in a job's processes.

The driver opens it before it loads the task; Ray lets each process that runs trials do so before any code of theirs.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raysweep import env, ray_private
from raysweep.errors import BadInput

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


def runtime_env(variables: Mapping[str, str | None], token: str) -> dict[str, Any]:
    """The part of a job's runtime environment that gives its processes these variables.

    Args:
        variables: name -> value; None removes what the cluster has by that name.
        token: the cluster's.
    """
    if not variables:
        return {}
    sealed = _cipher(token).encrypt(json.dumps(variables).encode()).decode()
    return {"env_vars": {env.RAYSWEEP_SEALED: sealed}, "worker_process_setup_hook": f"{__name__}.unseal"}


def unseal() -> None:
    """Sets the variables that this process's job was given, if it was given any.

    Raises:
        BadInput: they were sealed with a token that this process does not have.
    """
    if not (sealed := os.environ.get(env.RAYSWEEP_SEALED)):
        return
    from cryptography.fernet import InvalidToken

    try:
        variables: dict[str, str | None] = json.loads(_cipher(ray_private.token()).decrypt(sealed))
    except InvalidToken:
        raise BadInput(
            "`--env`: the variables cannot be read here, since they were sealed with another token than the one of"
            " this cluster's processes: correct RAY_AUTH_TOKEN_PATH where you submit, and submit again"
        ) from None
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _cipher(token: str) -> Fernet:
    """Encrypts and authenticates, with a key that is derived from the token."""
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(SHA256(), length=32, salt=None, info=b"raysweep: variables of a job").derive(token.strip().encode())
    return Fernet(base64.urlsafe_b64encode(key))
