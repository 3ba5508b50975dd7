"""The table of a storage's errors: what it says, what the page for users says, and what a sweep is told of each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raysweep.errors import StorageError, Unavailable
from raysweep.storage import Storage, base, open_storage
from raysweep.storage import s3 as s3_storage
from raysweep.storage.reasons import REASONS, RIGHTS
from raysweep.storage.s3 import S3_TRIES
from tests import s3
from tests.waiting import PATIENCE_S

PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()


@pytest.fixture
def faulty(s3_proxy: s3.S3Proxy, monkeypatch: pytest.MonkeyPatch) -> Storage:
    answered_within(PATIENCE_S, monkeypatch)  # these tests are of answers, however busy the machine is
    s3.use(s3_proxy, monkeypatch)
    return open_storage(f"{s3_proxy.new_bucket()}/runs")


def answered_within(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, s3_storage):
        monkeypatch.setattr(module, "PROBE_SECONDS", seconds)


def refused(storage: Storage) -> StorageError:
    with pytest.raises(StorageError) as caught:
        storage.probe()
    return caught.value


def test_each_name_has_one_reason() -> None:
    names = [name for reason in REASONS for name in reason.names.split()]
    assert len(names) == len(set(names))


def test_the_page_has_the_table() -> None:
    rows = re.findall(r"^\| (`.*`) \| (.+) \| (.+) \| (yes)? ?\|$", PAGE, re.MULTILINE)
    assert [(" ".join(re.findall("`([^`]+)`", names)), *rest) for names, *rest in rows] == [
        (reason.names, reason.cause, reason.fix, "yes" if reason.waits else "") for reason in REASONS
    ]


def test_the_page_has_the_rights() -> None:
    rows = re.findall(r"^\| `(s3:\w+)` \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [(right, purpose) for right, (purpose, _) in RIGHTS.items()]
    assert set(re.findall(r'"(s3:\w+)"', PAGE)) == set(RIGHTS), "the policy to copy"


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "RequestTimeTooSkewed", "the clock of this machine or of the store is wrong"),
        (400, "AuthorizationHeaderMalformed", "set AWS_DEFAULT_REGION"),
        (301, "PermanentRedirect", "set AWS_DEFAULT_REGION"),
        (400, "ExpiredToken", "the token has expired"),
        (400, "ExpiredToken", "continue with --resume auto"),
        (403, "QuotaExceeded", "free some space"),
        (507, "XMinioStorageFull", "free some space"),
        (507, "FullInItsOwnWords", "free some space"),
        (403, "DeniedInItsOwnWords", "no permission"),
        (418, "Teapot", "the store says: by the test"),
    ],
)
def test_an_error_that_does_not_pass_has_its_own_advice(faulty, s3_proxy, status, code, told) -> None:
    s3_proxy.refuse("ListObjectsV2", nth=0, status=status, code=code)
    error = refused(faulty)
    assert f"({code})" in str(error)
    assert told in str(error)
    assert not isinstance(error, Unavailable)


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "TooManyRequests"), (503, "SlowDown"), (400, "RequestTimeout"), (429, "BusyInItsOwnWords")],
)
def test_what_passes_is_waited_out(faulty, s3_proxy, status, code) -> None:
    for _ in range(S3_TRIES + 1):  # more often than the library itself asks
        s3_proxy.refuse("PutObject", status=status, code=code)
    faulty.patient().put("a", b"1")
    assert not [fault for fault in s3_proxy.faults if not fault.seen]
    assert faulty.get("a") == b"1"


@pytest.mark.parametrize(
    ("request_refused", "right"),
    [
        ("ListObjectsV2", "s3:ListBucket"),
        ("GetObject", "s3:GetObject"),
        ("PutObject", "s3:PutObject"),
        ("DeleteObject", "s3:DeleteObject"),
    ],
)
def test_each_right_is_missed_before_a_sweep_starts(faulty, s3_proxy, request_refused, right) -> None:
    s3_proxy.refuse(request_refused, nth=0)
    message = str(refused(faulty))
    assert message.endswith(
        "no permission (AccessDenied): allow its key s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject;"
        f" refused was {right}"
    )


def test_a_profile_that_does_not_exist_is_named(faulty, monkeypatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "no such profile (ProfileNotFound): correct AWS_PROFILE" in str(refused(faulty))


def test_an_endpoint_that_redirects_whatever_it_is_asked_is_named(faulty, s3_proxy) -> None:
    s3_proxy.refuse(nth=0, status=301, code="PermanentRedirect")
    assert "every request is redirected (RecursionError): correct AWS_ENDPOINT_URL" in str(refused(faulty))


def test_a_refusal_without_a_code_is_asked_for_its_code(faulty, s3_proxy) -> None:
    s3_proxy.refuse(nth=0, status=400, code="ExpiredToken")
    with pytest.raises(StorageError, match=r"/a: the token has expired, or is none \(ExpiredToken\)"):
        faulty.size("a")


def test_an_object_whose_head_alone_was_refused_has_its_size(faulty, s3_proxy) -> None:
    faulty.put("a", b"123")
    s3_proxy.refuse("HeadObject", status=400)
    assert faulty.size("a") == 3


def test_a_slow_store_is_not_a_dead_one(faulty, s3_proxy, monkeypatch) -> None:
    answered_within(12.0, monkeypatch)
    s3_proxy.slow(3.1)
    faulty.probe()
    assert len(s3_proxy.requests) * 3.1 > 12.0, "together they take longer than one may"
