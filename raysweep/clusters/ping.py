"""Checks with one request whether a dashboard is running and accepts this token. Needs no Ray, so it is quick."""

from __future__ import annotations

import enum
import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

SECONDS = 4.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Answer(enum.Enum):
    """A dashboard's answer to a token."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"
    BUSY = "busy"
    SILENT = "silent"


def headers(token: str | None) -> dict[str, str]:
    """The HTTP headers with a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def ask(dashboard: str, token: str | None) -> Answer:
    """Asks a dashboard for Ray's version.

    SILENT if there is no Ray at this address, BUSY if it accepts the connection but does not answer within SECONDS.
    """
    request = urllib.request.Request(f"{dashboard.rstrip('/')}/api/version", headers=headers(token))
    # A proxy set in the environment cannot reach this machine's own ports.
    direct = urlsplit(dashboard).hostname in LOOPBACK
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if direct else []))
    try:
        with opener.open(request, timeout=SECONDS):
            return Answer.OK
    except urllib.error.HTTPError as error:
        error.close()
        return {401: Answer.MISSING, 403: Answer.WRONG}.get(error.code, Answer.SILENT)
    except TimeoutError:  # after connecting; a timeout while connecting is a URLError
        return Answer.BUSY
    except (OSError, http.client.HTTPException, ValueError):
        return Answer.SILENT
