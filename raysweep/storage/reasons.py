"""Why a storage fails: the one table of what each error means, what to do about it, and whether it is waited out.

docs/stores.md shows the table and the rights to users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """A row of the table.

    Attributes:
        names: of errno values, S3 error codes, HTTP statuses, and botocore's exceptions, with a space between.
        cause: what is wrong.
        fix: what to do.
        waits: whether it may pass by itself; a sweep waits for that.
        keys: whether it is about the keys; a job then says which ones it has.
    """

    names: str
    cause: str
    fix: str
    waits: bool = False
    keys: bool = False


# What a key must be allowed to do, by its name in a policy -> what it is for, and the requests that need it.
RIGHTS = {
    "s3:ListBucket": ("to find a sweep and its parts", ("ListObjectsV2",)),
    "s3:GetObject": ("to read", ("GetObject", "HeadObject")),
    "s3:PutObject": (
        "to write",
        ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "CopyObject", "UploadPartCopy"),
    ),
    "s3:DeleteObject": ("to remove what a sweep needs no more", ("DeleteObject",)),
}

ELSEWHERE = "choose another --storage"
_SPACE = f"free some space, or {ELSEWHERE}"
ENDPOINT = "start the store, or correct AWS_ENDPOINT_URL, the network or the proxy"
DENIED = Reason("AccessDenied 403", "no permission", f"allow its key {', '.join(RIGHTS)}", keys=True)
UNKNOWN = Reason("", "refused", ELSEWHERE)

REASONS = (
    Reason("EACCES EPERM", "no permission", f"change the folder's owner or mode, or {ELSEWHERE}"),
    Reason("EROFS", "no permission, the file system is read-only", ELSEWHERE),
    Reason("ENOSPC EDQUOT", "the disk is full", _SPACE),
    Reason("ENOTDIR EEXIST", "a file stands where a folder should be", f"move it away, or {ELSEWHERE}"),
    Reason("EIO ESTALE ETIMEDOUT", "the disk or its mount fails", f"check it, or {ELSEWHERE}"),
    DENIED,
    Reason(
        "InvalidAccessKeyId SignatureDoesNotMatch 401",
        "no permission",
        "correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or the profile that has them",
        keys=True,
    ),
    Reason(
        "NoCredentialsError PartialCredentialsError CredentialRetrievalError",
        "no credentials",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        keys=True,
    ),
    Reason(
        "ExpiredToken ExpiredTokenException InvalidToken TokenRefreshRequired"
        " TokenRetrievalError UnauthorizedSSOTokenError SSOTokenLoadError",
        "the token has expired, or is none",
        "get a new one (AWS_SESSION_TOKEN with its two keys, or `aws sso login`), and continue with --resume auto",
        keys=True,
    ),
    Reason("ProfileNotFound", "no such profile", "correct AWS_PROFILE, or add it to ~/.aws/config"),
    Reason("RequestTimeTooSkewed", "the clock of this machine or of the store is wrong", "set it"),
    Reason(
        "AuthorizationHeaderMalformed PermanentRedirect TemporaryRedirect IllegalLocationConstraintException"
        " InvalidRegionError NoRegionError 301 307",
        "the region is wrong",
        "set AWS_DEFAULT_REGION to that of the bucket",
    ),
    # botocore looks for a bucket's region in the answer to a request, for which it looks in that to another one.
    Reason("RecursionError", "every request is redirected", "correct AWS_ENDPOINT_URL, perhaps to https://…"),
    Reason("NoSuchBucket", "no such bucket", f"create it, or {ELSEWHERE}"),
    Reason(
        "QuotaExceeded XMinioStorageFull XMinioAdminBucketQuotaExceeded 507",
        "the store is full, or its quota used up",
        _SPACE,
    ),
    Reason("InvalidPart", "the store has lost a part of what was written", "check its disk and its log"),
    Reason("404 405", "refused", "correct AWS_ENDPOINT_URL: what answers there is no S3 store"),
    Reason("ProxyConnectionError SSLError ValueError", "unreachable", ENDPOINT),
    Reason(
        "EndpointConnectionError ConnectTimeoutError ReadTimeoutError ConnectionClosedError",
        "unreachable",
        ENDPOINT,
        waits=True,
    ),
    Reason(
        "ResponseStreamingError IncompleteReadError RetriesExceededError",
        "the response was incomplete",
        ENDPOINT,
        waits=True,
    ),
    Reason("RequestTimeout 408", "the request came too slowly", "check the network", waits=True),
    Reason(
        "SlowDown TooManyRequests Throttling RequestLimitExceeded 429",
        "the store has too much to do",
        "try again later, or raise its limit of requests",
        waits=True,
    ),
    Reason(
        "InternalError ServiceUnavailable 500 502 503 504",
        "the store is not available",
        "try again later",
        waits=True,
    ),
)
_BY_NAME = {name: reason for reason in REASONS for name in reason.names.split()}


def find(names: Sequence[str]) -> Reason:
    """The reason of the first name that the table has; UNKNOWN without one."""
    return next((_BY_NAME[name] for name in names if name in _BY_NAME), UNKNOWN)


def right_for(request: str) -> str | None:
    """The right that a request of S3 needs."""
    return next((right for right, (_, requests) in RIGHTS.items() if request in requests), None)
