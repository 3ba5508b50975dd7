"""Files on their way: hashed as they pass, several at a time, and an error of this machine's disk is one of its own."""

import errno
import hashlib
import io
import threading
import time

import pytest

from raysweep.storage import FolderStorage
from raysweep.storage.files import AT_ONCE, HEAD, HashingReader, HashingWriter, in_parallel


@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD, HEAD + 1, 2 * HEAD + 5])
@pytest.mark.parametrize("step", [1000, HEAD, -1])
def test_what_passes_is_hashed_however_it_is_cut(size, step):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    reader, target = HashingReader(io.BytesIO(data)), io.BytesIO(b"of before, and longer" * size)
    writer = HashingWriter(target)
    while piece := reader.read(step):
        writer.write(piece)
    assert target.getvalue() == data
    assert reader.total == size
    head = hashlib.sha256(data[:HEAD]).hexdigest()
    assert reader.digest == writer.digest == (size, hashlib.sha256(data).hexdigest(), head)


def test_results_come_in_the_order_of_the_items_and_some_run_at_the_same_time():
    together = threading.Barrier(AT_ONCE)

    def wait(number):
        if number < AT_ONCE:
            together.wait(10)
        return number

    assert in_parallel(wait, range(20)) == list(range(20))
    assert in_parallel(wait, []) == []


def test_after_an_error_nothing_more_is_begun():
    begun = []

    def call(number):
        begun.append(number)
        if number == 3:
            raise ValueError("the third")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="the third"):
        in_parallel(call, range(10_000))
    assert len(begun) < 5000


class Full(io.BytesIO):
    """A file on a disk that is full."""

    name = "/data/weights"

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def read(self, size=-1):
        raise OSError(errno.EIO, "Input/output error")


def test_an_error_of_this_machines_disk_is_not_taken_for_one_of_the_storage(tmp_path):
    place = FolderStorage(str(tmp_path))
    place.put("a", b"1")
    with pytest.raises(RuntimeError, match=r"^/data/weights: cannot be written: No space left on device: check"):
        place.get_file("a", Full())
    with pytest.raises(RuntimeError, match=r"^/data/weights: cannot be read: Input/output error: check the disk"):
        place.put_file("b", Full())
    assert place.list() == ["a"]
