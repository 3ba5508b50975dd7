"""The file that takes what a process prints: its lines, and what another process stores of it after a crash."""

import json
import os
import subprocess
import sys

import pytest

from raysweep.history import trial_log
from raysweep.storage import FolderStorage
from raysweep.trial import spool
from raysweep.trial.spool import CHUNK, collapsed


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        (b"a\nb\n", b"a\nb\n"),
        (b"\r 1%\r 50%\r100%\ndone\n", b"100%\ndone\n"),
        (b" 1%\r 50%\r100%\r\ndone\r\n", b"100%\ndone\n"),
        (b"\r 99%\r     \repoch 1\n", b"epoch 1\n"),
        (b"\rhalf", b"half"),
    ],
)
def test_of_a_line_that_is_rewritten_the_last_state_is_kept(printed, kept):
    assert collapsed(printed) == kept


def lines_of(tmp_path, printed, final=True, label=""):
    (tmp_path / "f").write_bytes(printed)
    file, at, lines = os.open(tmp_path / "f", os.O_RDONLY), 0, []
    while True:
        new, then = spool.next_lines(file, at, len(printed), final, label)
        if then == at:
            os.close(file)
            return b"".join(lines), at
        lines.append(new)
        at = then


def test_an_unfinished_line_waits_for_its_end(tmp_path):
    assert lines_of(tmp_path, b"one\nha", final=False) == (b"one\n", 4)
    assert lines_of(tmp_path, b"one\nha") == (b"one\nha\n", 6)


def test_each_process_of_a_trial_labels_its_lines(tmp_path):
    assert lines_of(tmp_path, b"one\n\ntwo", label="(rank 1) ")[0] == b"(rank 1) one\n(rank 1) \n(rank 1) two\n"


def test_a_bar_that_never_ends_its_line_needs_no_room(tmp_path):
    bar = b"".join(b"\r%09d of 400000" % n for n in range(100_000))
    assert len(bar) > CHUNK
    lines, at = lines_of(tmp_path, bar, final=False)
    assert lines == b""
    assert len(bar) - at < CHUNK
    assert lines_of(tmp_path, bar + b"\n")[0] == b"000099999 of 400000\n"


def test_a_line_without_end_becomes_several(tmp_path):
    lines, at = lines_of(tmp_path, b"x" * (CHUNK + 5), final=False)
    assert (lines, at) == (b"x" * CHUNK + b"\n", CHUNK)


class Left:
    """What a process left behind."""

    def __init__(self, folder, place):
        self.spool, self.notes, self.place = folder / "worker-1.printed", folder / "worker-1.runs", place

    def write(self, printed, runs, punched=0, url=None):
        self.spool.write_bytes(printed)
        runs = [{"label": "", "shown": 0, "header": f"[run of {run['key']}]\n", **run} for run in runs]
        self.notes.write_text(json.dumps({"url": url or self.place.url, "punched": punched, "runs": runs}) + "\nolder")

    def rescue(self, patience=0.0):
        spool.rescue(str(self.spool), str(self.notes), self.place, patience=patience)

    @property
    def exists(self):
        return self.spool.exists() or self.notes.exists()


@pytest.fixture
def left(tmp_path):
    return Left(tmp_path, FolderStorage(str(tmp_path / "s")))


KEY, OTHER = trial_log.key("00003"), trial_log.key("00004", "1-a")


def test_what_a_dead_process_had_not_stored_is_stored_by_another_one(left):
    left.place.put(KEY, b"[header]\nstored\nunfini")
    runs = [
        {"trial": "00003", "key": KEY, "began": 0, "stored": 7},
        {"trial": "00004", "key": OTHER, "began": 18, "stored": 18},
    ]
    left.write(b"stored\nunfinished\nof the next\rof the next run", runs)
    left.rescue()
    assert left.place.get(KEY) == b"[header]\nstored\nunfinished\n"
    assert left.place.get(OTHER) == b"[run of logs/00004/1-a.txt]\nof the next run\n"
    assert not left.exists


def test_what_the_file_has_lost_is_counted(left):
    left.place.put(KEY, b"[header]\nbegin\n")
    left.write(b"begin\n" + bytes(100) + b"end\n", [{"trial": "00003", "key": KEY, "began": 0, "stored": 6}], 106)
    left.rescue()
    text = left.place.get(KEY)
    assert text == b"[header]\nbegin\n[raysweep: 100 bytes are left out here]\nend\n"


def test_a_run_that_printed_nothing_gets_no_object(left):
    left.write(b"", [{"trial": "00003", "key": KEY, "began": 0, "stored": 0}])
    left.rescue()
    assert left.place.list("logs") == []
    assert not left.exists


@pytest.mark.parametrize("wrong", ["another sweep", "nothing"])
def test_what_is_not_ours_is_left_alone(left, wrong, tmp_path):
    if wrong == "another sweep":
        left.write(b"text\n", [{"trial": "00003", "key": KEY, "began": 0, "stored": 0}], url="s3://elsewhere/s")
    left.rescue()
    assert left.place.list("logs") == []
    assert left.exists == (wrong == "another sweep")


def test_a_process_that_is_still_there_keeps_its_files(left):
    left.write(b"text\n", [{"trial": "00003", "key": KEY, "began": 0, "stored": 0}])
    code = (
        "import os, sys; from raysweep.trial import spool\n"
        f"spool.lock(os.open({str(left.notes)!r}, os.O_RDWR)); print('locked', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"locked\n"
    left.rescue()
    assert left.exists
    owner.kill()
    owner.communicate()
    left.rescue(patience=spool.GONE_S)
    assert left.place.get(KEY).endswith(b"text\n")


def test_the_last_lines_are_those_of_the_newest_run(left):
    earlier, printed = b"an earlier run\n", b"".join(b"line %d\n" % n for n in range(50)) + b"\n\rx\r" + b"y" * 1000
    runs = [{"trial": "00003", "key": KEY, "began": at, "stored": at} for at in (0, len(earlier))]
    left.write(earlier + printed, runs)
    lines = spool.last_lines(str(left.spool), str(left.notes))
    assert lines == (*(f"line {n}" for n in range(41, 50)), "y" * spool.LAST_WIDTH + " …")
    left.write(earlier, runs)
    assert spool.last_lines(str(left.spool), str(left.notes)) == ()


def test_of_a_process_that_noted_nothing_there_are_none(left):
    assert spool.last_lines(str(left.spool), str(left.notes)) == ()


def test_a_file_gives_room_back_to_the_disk(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 4 * CHUNK)
    with (tmp_path / "f").open("r+b") as file:
        spool.punch(file.fileno(), 0, 3 * CHUNK)
        assert os.fstat(file.fileno()).st_size == 4 * CHUNK
        assert os.fstat(file.fileno()).st_blocks * 512 < 2 * CHUNK
        assert os.pread(file.fileno(), CHUNK, 3 * CHUNK) == b"x" * CHUNK
