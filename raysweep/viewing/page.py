"""Serves the page of a sweep, report.html, on this machine's loopback."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from raysweep.errors import NotFound, RaysweepError
from raysweep.reporting.write import NAME, OFTEN_S, page_of
from raysweep.viewing.followed import Followed

HOST = "127.0.0.1"
PART_OF_TIME = 0.1  # that making them may take
_EVENTS = re.compile(rb'<meta name="raysweep-events" content="(\d+)">')
_HEAD_BYTES = 4096  # of a page, in which that stands


class FreshPage:
    """The page of a sweep, never older than its journal; of a running one, at most by OFTEN_S.

    Args:
        name: of the sweep.
        storage: where the sweeps are.

    Raises:
        BadInput: there is no such sweep.
        StorageError: the storage refused.
    """

    def __init__(self, name: str, storage: str) -> None:
        self._followed = Followed(name, storage, keeps_events=True)
        self._lock, self._page, self._events, self._due = threading.Lock(), b"", 0, 0.0

    def content(self) -> bytes:
        """The page; that of the storage, if it has all events.

        Raises:
            StorageError: the storage refused, and there is no earlier page.
        """
        with self._lock:
            try:
                self._renew()
            except RaysweepError:
                if not self._page:
                    raise
            return self._page

    def _renew(self) -> None:
        self._followed.update()
        state, now = self._followed.sweep.state, time.monotonic()
        running = state.exit_code is None
        if self._page and (state.seq == self._events or (running and now < self._due)):
            return
        stored = None if running else self._stored()
        self._page = stored or page_of([self._followed.sweep])
        self._events = state.seq
        self._due = now + max(OFTEN_S, (time.monotonic() - now) / PART_OF_TIME)

    def _stored(self) -> bytes | None:
        """The page of the storage, if it is as new as the journal."""
        try:
            page = self._followed.place.get(NAME)
        except NotFound:
            return None
        found = _EVENTS.search(page, 0, _HEAD_BYTES)
        return page if found and int(found[1]) == self._followed.sweep.state.seq else None


class PageServer(ThreadingHTTPServer):
    """Answers with a page, whoever of this machine asks.

    Args:
        page: is asked each time.
        port: to listen on; 0 for a free one.
    """

    daemon_threads = True

    def __init__(self, page: FreshPage, port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.page = page

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"


def serve(name: str, storage: str, port: int | None, say: Callable[[str], None]) -> None:
    """Serves the page of a sweep until Ctrl-C.

    Args:
        name: of the sweep.
        storage: where the sweeps are.
        port: to listen on; a free one if it is None.
        say: is called with the address.

    Raises:
        BadInput: there is no such sweep.
        StorageError: the storage refused.
    """
    page = FreshPage(name, storage)
    with PageServer(page, port or 0) as server, contextlib.suppress(KeyboardInterrupt):
        say(server.url)
        server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        """Called by http.server."""
        # Another name in `Host` is that of a web page which had its name resolved to this machine.
        if self.headers.get("Host") not in [f"{name}:{self.server.server_port}" for name in (HOST, "localhost")]:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.path not in ("/", f"/{NAME}"):
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._answer()

    def _answer(self) -> None:
        try:
            page = self.server.page.content()
        except RaysweepError as error:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, explain=str(error))
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the terminal has the address."""
