"""One question to a dashboard: does it run, and does it take this token? Needs no Ray, so it is quick."""

from __future__ import annotations

import enum
import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

SECONDS = 4.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Answer(enum.Enum):
    """What a dashboard says to a token."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"
    BUSY = "busy"
    SILENT = "silent"


def headers(token: str | None) -> dict[str, str]:
    """The HTTP headers that carry a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def ask(dashboard: str, token: str | None) -> Answer:
    """Asks a dashboard for Ray's version.

    SILENT if nothing there looks like Ray, BUSY if something takes the question and has no answer within SECONDS.
    """
    request = urllib.request.Request(f"{dashboard.rstrip('/')}/api/version", headers=headers(token))
    # A proxy of the environment cannot know this machine's own ports.
    direct = urlsplit(dashboard).hostname in LOOPBACK
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if direct else []))
    try:
        with opener.open(request, timeout=SECONDS):
            return Answer.OK
    except urllib.error.HTTPError as error:
        error.close()
        return {401: Answer.MISSING, 403: Answer.WRONG}.get(error.code, Answer.SILENT)
    except TimeoutError:  # one while connecting is a URLError
        return Answer.BUSY
    except (OSError, http.client.HTTPException, ValueError):
        return Answer.SILENT
