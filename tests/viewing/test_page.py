"""The page on this machine's loopback: never older than the journal, and for nobody else."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raysweep.reporting.write import NAME, write
from raysweep.viewing import page as page_module
from raysweep.viewing.page import FreshPage, PageServer, serve
from tests.viewing.growing import Growing, complete, result, start, suggest

END = {"type": "end", "status": "ended"}


@pytest.fixture
def growing(tmp_path: Path) -> Growing:
    sweep = Growing(tmp_path)
    sweep.append(start(), suggest(0, lr=0.1, momentum=0.5, width=9, activation="relu"), result(0, 1, 0.5))
    return sweep


def events_of(page: bytes) -> int:
    found = re.search(rb'<meta name="raysweep-events" content="(\d+)">', page)
    assert found
    return int(found[1])


def marked(growing: Growing) -> None:
    """The page of the storage can be told from one that is made now."""
    growing.place.put(NAME, growing.place.get(NAME) + b"<!-- of the storage -->")


def test_the_page_of_the_storage_is_served_if_it_has_all_events(growing: Growing) -> None:
    growing.append(complete(0), END)
    write(growing.place)
    marked(growing)
    assert FreshPage("mine", growing.storage).content() == growing.place.get(NAME)


def test_a_missing_or_older_page_is_made_anew_and_the_storage_stays_as_it_is(growing: Growing) -> None:
    growing.append(complete(0), END)
    assert events_of(FreshPage("mine", growing.storage).content()) == 5
    assert not growing.place.exists(NAME)
    write(growing.place)
    marked(growing)
    growing.append(start(term=2), END, term=2)
    made = FreshPage("mine", growing.storage).content()
    assert events_of(made) == 7
    assert not made.endswith(b"<!-- of the storage -->")


def test_the_page_of_a_running_sweep_is_made_now_and_then(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = FreshPage("mine", growing.storage)
    assert events_of(first := fresh.content()) == 3
    growing.append(result(0, 2, 0.6))
    assert fresh.content() is first
    later = time.monotonic() + 3600
    monkeypatch.setattr(page_module.time, "monotonic", lambda: later)
    assert events_of(fresh.content()) == 4
    growing.append(complete(0), END)
    assert events_of(fresh.content()) == 6  # the last one is not waited for


@pytest.fixture
def server(growing: Growing) -> Iterator[PageServer]:
    growing.append(complete(0), END)
    with PageServer(FreshPage("mine", growing.storage)) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: PageServer, path: str, host: str = "") -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)) as connection:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_it_answers_on_loopback_only_and_by_its_own_name(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    status, page = ask(server, "/")
    assert (status, page[:15], events_of(page)) == (200, b"<!doctype html>", 5)
    assert ask(server, f"/{NAME}", f"localhost:{server.server_port}") == (200, page)
    assert ask(server, "/", "evil.example")[0] == 421
    assert ask(server, "/../sweep.json")[0] == 404


def test_what_the_storage_refuses_is_said(growing: Growing, server: PageServer) -> None:
    growing.place.local_path("sweep.json").unlink()
    growing.append(start(term=3), term=3)  # all of it has to be read
    status, said = ask(server, "/")
    assert status == 503
    assert b"sweep.json is missing" in said


def test_it_is_served_at_a_port_until_ctrl_c(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: PageServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, "serve_forever", interrupt)
    said: list[str] = []
    serve("mine", growing.storage, None, said.append)
    [port] = re.findall(r"^http://127\.0\.0\.1:(\d+)/$", said[0])
    serve("mine", growing.storage, int(port), said.append)
    assert said == [said[0]] * 2
