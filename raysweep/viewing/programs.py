"""TensorBoard and optuna-dashboard on a sweep: programs of their own, on this machine's loopback, while this runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from raysweep import temporary
from raysweep.errors import BadInput, RaysweepError, Unavailable
from raysweep.history import results
from raysweep.loop.tensorboard import FOLDER
from raysweep.storage import open_storage
from raysweep.trial import leash
from raysweep.viewing.events import EventFiles, StudyFile
from raysweep.viewing.followed import Followed
from raysweep.viewing.page import HOST

OFTEN_S = 5.0  # between two looks at the journal
STARTS_S = 180.0  # a busy machine takes long to import a program
ENDS_S = 5.0  # for a program to end, before it is killed
LAST_SAID = 2000  # characters of what it said, if it ends by itself
Update = Callable[[], None]
Prepared = contextlib.AbstractContextManager[tuple[list[str], Update]]


@contextlib.contextmanager
def _tensorboard(name: str, storage: str) -> Iterator[tuple[list[str], Update]]:
    """Its arguments, and what keeps its files up to date: those of a folder are, while their sweep runs."""
    results.read(name, storage)
    there = open_storage(storage).child(name).local_path(FOLDER)
    if there is not None and there.is_dir():
        yield ["--logdir", str(there)], lambda: None
        return
    with temporary.folder("open") as folder:
        files = EventFiles(folder)
        followed = Followed(name, storage, files)

        def update() -> None:
            followed.update()
            files.write()

        try:
            yield ["--logdir", str(folder / FOLDER)], update
        finally:
            files.close()


@contextlib.contextmanager
def _optuna_dashboard(name: str, storage: str) -> Iterator[tuple[list[str], Update]]:
    followed = Followed(name, storage)
    with temporary.folder("open") as folder:
        path = folder / "optuna.log"
        study = StudyFile(path)
        study.write(followed.sweep)

        def update() -> None:
            if followed.update():
                study.write(followed.sweep)

        yield ["--server", "wsgiref", str(path)], update


PROGRAMS: dict[str, Callable[[str, str], Prepared]] = {
    "tensorboard": _tensorboard,
    "optuna-dashboard": _optuna_dashboard,
}


def serve(program: str, name: str, storage: str, port: int | None, say: Callable[[str], None]) -> None:
    """Runs a program on a sweep until Ctrl-C.

    Args:
        program: one of PROGRAMS.
        name: of the sweep.
        storage: where the sweeps are.
        port: to listen on; a free one if it is None.
        say: is called with the address when the program answers.

    Raises:
        BadInput: the program is not installed, or there is no such sweep.
        RaysweepError: the program ended by itself, or does not answer.
        StorageError: the storage refused.
    """
    path = _installed(program)
    with PROGRAMS[program](name, storage) as (arguments, update), tempfile.TemporaryFile() as said:
        port = port or _free_port()
        child = _start([path, *arguments, "--host", HOST, "--port", str(port)], said)
        try:
            _wait_until_it_answers(program, child, port, said)
            say(f"http://{HOST}:{port}/")
            while child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(OFTEN_S)
                with contextlib.suppress(Unavailable):  # it is asked again
                    update()
            raise _ended(program, child, said)
        except KeyboardInterrupt:
            return
        finally:
            _end(child)


def _installed(program: str) -> str:
    beside = shutil.which(program, path=str(Path(sys.executable).parent))
    if found := beside or shutil.which(program):
        return found
    raise BadInput(f"`--with {program}`: is not installed here: pip install {program}")


def _start(command: list[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C does not reach it, and without the keys of the storage."""
    held = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.Popen(
        [*held, *command],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        env=environment,
        start_new_session=True,
    )


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


def _wait_until_it_answers(program: str, child: subprocess.Popen[bytes], port: int, said: IO[bytes]) -> None:
    retry = Retrying(
        retry=retry_if_result(lambda answers: not answers),
        stop=stop_after_delay(STARTS_S),
        wait=wait_fixed(0.1),
        retry_error_callback=lambda state: None,
    )
    retry(lambda: child.poll() is not None or _answers(port))
    if child.poll() is not None:
        raise _ended(program, child, said)
    if not _answers(port):
        raise RaysweepError(f"{program} does not answer on port {port} after {STARTS_S:g} s")


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _ended(program: str, child: subprocess.Popen[bytes], said: IO[bytes]) -> RaysweepError:
    said.seek(0)
    last = said.read().decode(errors="replace")[-LAST_SAID:].strip()
    return RaysweepError(f"{program} has ended with exit code {child.returncode}: {last or 'it said nothing'}")


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(ENDS_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
