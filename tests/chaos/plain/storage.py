"""Faults of the store, which pyarrow reaches through the proxy."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests import s3
from tests.chaos.plain.run import BEFORE, LONG_S, privately
from tests.chaos.test_storage import AWAY_S, EVERY, HANGS_S

FAULTS = ("s3-503", "s3-hangs", "s3-resets", "s3-refuses", "s3-loses")


def on_storage(faults: list[str]) -> Iterator[dict[str, Any]]:
    """What each fault came to."""
    with s3.running_s3_server() as server:
        for fault in faults:
            with tempfile.TemporaryDirectory(prefix="plain-") as folder, s3.running_s3_proxy(server) as proxy:
                yield {"fault": fault, **_store(fault, Path(folder), proxy)}


def _store(fault: str, folder: Path, proxy: s3.S3Proxy) -> dict[str, Any]:
    where = proxy.endpoint.removeprefix("http://")
    storage = f"{proxy.new_bucket()}/runs?scheme=http&endpoint_override={where}&region=us-east-1"
    # Checksums by default would be sent in chunks, which the proxy does not take.
    sweep = privately(folder, storage, LONG_S, AWS_REQUEST_CHECKSUM_CALCULATION="when_required", **proxy.env)
    sweep.after(BEFORE)
    if fault == "s3-503":
        _for_a_while(proxy, proxy.unavailable, AWAY_S)
    elif fault == "s3-hangs":
        _for_a_while(proxy, proxy.hang, HANGS_S)
    for put in ("PutObject", "UploadPart"):  # pyarrow sends the smallest object in parts
        if fault == "s3-resets":
            proxy.drop_answer(put, nth=0, every=EVERY)
        elif fault == "s3-refuses":
            proxy.refuse(put, nth=0, every=EVERY, status=503)
        elif fault == "s3-loses":
            proxy.lose(put, key="*state.json", nth=0, every=EVERY)
    return sweep.end()


def _for_a_while(proxy: s3.S3Proxy, fault: Callable[[], None], seconds: float) -> None:
    fault()
    time.sleep(seconds)
    proxy.heal()
