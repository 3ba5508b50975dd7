"""The S3 store that a target brings along: its keys, and the bucket for sweeps.

The keys are created once and kept in files: `s3-identities.json` for the store, `aws-credentials` for its users. They
permit everything in their own bucket, and nothing else.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from raysweep import env
from raysweep.errors import ClusterError

BUCKET = "raysweep"
STORAGE = f"s3://{BUCKET}"
REGION = "us-east-1"  # arbitrary: the store has none, but S3's signature needs one
IDENTITIES, CREDENTIALS = "s3-identities.json", "aws-credentials"
ACTIONS = ("Admin", "Read", "Write", "List", "Tagging")
TRIES = 8
PORT = 8333  # of the store, and by default on this machine too


def new_keys() -> dict[str, str]:
    """New keys, as the contents of the two files."""
    access, secret = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    identity = {
        "name": BUCKET,
        "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": [f"{action}:{BUCKET}" for action in ACTIONS],
    }
    return {
        IDENTITIES: json.dumps({"identities": [identity]}, indent=2) + "\n",
        CREDENTIALS: f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n",
    }


def create_bucket(endpoint: str, credentials: Path) -> None:
    """Creates the bucket, unless it exists.

    Raises:
        ClusterError: the store does not answer, or refuses.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.session import Session

    keys = Session(profile="default")  # by name, so that keys in the environment do not take precedence over the file
    keys.set_config_variable("credentials_file", str(credentials))
    retries = Config(retries={"mode": "standard", "total_max_attempts": TRIES})
    client = boto3.session.Session(region_name=REGION, botocore_session=keys).client(
        "s3", endpoint_url=endpoint, config=retries
    )
    try:
        client.create_bucket(Bucket=BUCKET)
    except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        return
    except (BotoCoreError, ClientError) as error:
        raise ClusterError(f"cannot create the bucket of the store at {endpoint}: {error}") from error


def environment(endpoint: str, credentials: Path) -> dict[str, str]:
    """The variables that boto3, and so `raysweep`, needs to reach the store from this machine."""
    return {
        env.AWS_ENDPOINT_URL: endpoint,
        env.AWS_SHARED_CREDENTIALS_FILE: str(credentials),
        env.AWS_DEFAULT_REGION: REGION,
    }
