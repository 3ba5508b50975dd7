"""Storage in a folder or in `s3://bucket/prefix`, behind one small interface (`base`).

folder, s3      the two implementations
reasons         what each error means, what to do about it, and whether it is waited out
append_log      appends to a log, although objects cannot be appended to
code_upload     uploads a job's code
files           files on their way: hashed, and several at a time
dataset         uploads and downloads a sweep's data
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from raysweep.errors import BadInput
from raysweep.storage.base import Storage
from raysweep.storage.folder import FolderStorage

__all__ = ["FolderStorage", "Storage", "open_storage"]


def open_storage(url: str) -> Storage:
    """The storage at `s3://bucket/prefix`, `file:///folder` or a folder; does not connect yet.

    Raises:
        BadInput: the url is none of these.
    """
    if re.fullmatch(r"s3://[^/@:?]+(/[^?]*)?", url):
        from raysweep.storage.s3 import S3Storage  # not needed for a folder

        return S3Storage(url.rstrip("/"))
    path = unquote(urlsplit(url).path) if re.match("file:(///|/[^/])", url) else url
    if path and ":" not in path.partition("/")[0]:
        return FolderStorage(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 (links are not resolved)
    redacted = re.sub("//[^/]*@", "//***@", url.partition("?")[0])
    raise BadInput(
        f"`--storage {redacted}`: must be a folder or s3://bucket/prefix; put"
        " an S3 store's endpoint and credentials into AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY"
    )
