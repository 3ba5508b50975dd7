"""Storage: one contract for a folder and a real S3 server, and every failure in words."""

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raysweep.errors import BadInput, Corrupt, NotFound, StorageError, Unavailable
from raysweep.storage import FolderStorage, open_storage
from raysweep.storage import s3 as s3_storage
from raysweep.storage.s3 import LARGE, S3_TRIES, S3Storage
from tests import s3
from tests.waiting import within

PROBE_LIMIT_SECONDS = 4.0


storage = s3.either_storage


@pytest.fixture
def bucket(s3_server, monkeypatch):
    s3.use(s3_server, monkeypatch)
    return s3_server.new_bucket()


@pytest.fixture
def faulty(s3_proxy, monkeypatch):
    s3.use(s3_proxy, monkeypatch)
    return open_storage(f"{s3_proxy.new_bucket()}/runs")


def probe_failure(storage, *secrets):
    """The message of a probe that must fail, after the rules that every message keeps."""
    with within(PROBE_LIMIT_SECONDS), pytest.raises(StorageError) as caught:
        storage.probe()
    message = str(caught.value)
    assert message.startswith(f"{storage.url}: ")
    assert "\n" not in message
    assert ".probe-" not in message
    assert not [secret for secret in secrets if secret in message]
    return message


# The contract.


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, 2 * LARGE + 1])
def test_gives_back_what_was_put(storage, size):
    data = os.urandom(size)
    storage.put("a/b.bin", data)
    assert storage.get("a/b.bin") == data
    assert storage.size("a/b.bin") == size


@pytest.mark.parametrize("size", [0, 1, LARGE, 2 * LARGE + 1])
def test_a_file_comes_back_as_it_was(storage, tmp_path, size):
    (tmp_path / "there").write_bytes(os.urandom(size))
    (tmp_path / "back").write_bytes(b"what was there before, and is longer" * 2)
    with (tmp_path / "there").open("rb") as there, (tmp_path / "back").open("r+b") as back:
        sent = storage.put_file("a/b.bin", there)
        assert storage.get_file("a/b.bin", back) == storage.get_file("a/b.bin") == sent
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes() == storage.get("a/b.bin")
    assert sent.size == storage.size("a/b.bin") == size


def test_a_copy_does_not_need_what_it_was_made_of(storage):
    for name in ("a", "c/b"):
        storage.put(name, b"of before")
    storage.put("a", b"first")
    storage.copy("a", "c/b")
    storage.put("a", b"second")
    assert storage.get("c/b") == b"first"
    storage.delete("a")
    assert storage.get("c/b") == b"first"
    storage.put("c/b", b"third")
    assert storage.list() == ["c/b"]


def test_a_copy_in_a_folder_takes_no_room(tmp_path):
    place = open_storage(str(tmp_path))
    place.put("a", b"1")
    place.copy("a", "b/c")
    assert (tmp_path / "a").samefile(tmp_path / "b/c")


def test_where_a_folder_has_no_links_the_bytes_are_copied(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    place = open_storage(str(tmp_path))
    place.put("a", b"1")
    place.copy("a", "b/c")
    assert place.get("b/c") == b"1"
    assert not (tmp_path / "a").samefile(tmp_path / "b/c")


def test_sizes_of_all_that_is_in_a_folder(storage):
    for key, size in (("a/b", 3), ("a/c/d", 0), ("ab", 1)):
        storage.put(key, b"x" * size)
    assert storage.sizes("a") == {"a/b": 3, "a/c/d": 0}
    assert storage.sizes("nothing") == {}


@pytest.mark.parametrize("start", [0, 1, 5])
def test_the_rest_of_an_object_is_read_from_any_byte_on(storage, start):
    storage.put("a", b"012345")
    assert storage.get_from("a", start) == b"012345"[start:]
    with pytest.raises(NotFound):
        storage.get_from("b", start)


def test_the_last_put_counts(storage):
    storage.put("a", b"first, and longer")
    storage.put("a", b"second")
    assert storage.get("a") == b"second"


def test_creates_an_object_once(storage):
    assert storage.create("lease/000001.json", b"mine")
    assert not storage.create("lease/000001.json", b"yours")
    assert storage.get("lease/000001.json") == b"mine"
    assert storage.list("lease") == ["lease/000001.json"]


def test_of_those_who_create_at_the_same_time_one_does(storage):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: storage.create("lease/000001.json", b"%d" % i), range(8)))
    assert sum(made) == 1
    assert storage.get("lease/000001.json") == b"%d" % made.index(True)


def test_what_is_absent(storage):
    storage.put("folder/object", b"1")
    for key in ("nothing", "folder", "folder/nothing"):
        assert not storage.exists(key)
        storage.delete(key)
        for read in (storage.get, storage.size, storage.get_file, lambda key: storage.copy(key, "there")):
            with pytest.raises(NotFound, match=f"{storage.url}/{key}: "):
                read(key)
    storage.delete_tree("nothing")
    assert storage.list("nothing") == []
    assert storage.exists("folder/object")


def test_lists_folders_not_name_prefixes(storage):
    for key in ("trial_1/b", "trial_1/a/c", "trial_10/x", "y", "ü/z"):
        storage.put(key, b"1")
    assert storage.list("") == ["trial_1/a/c", "trial_1/b", "trial_10/x", "y", "ü/z"]
    assert storage.list("trial_1") == storage.list("trial_1/") == ["trial_1/a/c", "trial_1/b"]
    assert storage.child("trial_1").list("") == ["a/c", "b"]


def test_folders_are_named_without_what_lies_in_them(storage):
    assert storage.folders() == []
    for key in ("trial_1/b", "trial_1/a/c", "trial_10/x", "y", "ü/z"):
        storage.put(key, b"1")
    assert storage.folders() == ["trial_1", "trial_10", "ü"]
    assert storage.child("trial_1").folders() == ["a"]
    assert storage.child("nothing").folders() == []


def test_deletes_one_object_or_a_folder(storage):
    for key in ("trial_1/a", "trial_1/b/c", "trial_10/x"):
        storage.put(key, b"1")
    storage.delete("trial_1/a")
    assert storage.list() == ["trial_1/b/c", "trial_10/x"]
    storage.delete_tree("trial_1")
    assert storage.list() == ["trial_10/x"]


def test_a_child_is_a_storage_of_its_own(storage):
    child = storage.child("sweep/").child("journal")
    child.put("1", b"event")
    assert child.url == f"{storage.url}/sweep/journal"
    assert storage.get("sweep/journal/1") == b"event"


@pytest.mark.parametrize("key", ["../outside", "/outside", "a/../../outside"])
def test_a_key_stays_inside(storage, key):
    with pytest.raises(BadInput, match="leaves"):
        storage.put(key, b"1")
    with pytest.raises(BadInput, match="leaves"):
        storage.child("x").delete_tree(key.rstrip("/") if key.startswith("..") else "..")


def test_lists_more_than_one_page(bucket, s3_server):
    storage = open_storage(bucket)
    names, bucket = [f"{number:04d}" for number in range(1003)], bucket.removeprefix("s3://")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: s3_server.client.put_object(Bucket=bucket, Key=name, Body=b""), names))
    assert storage.list() == names


def test_a_probe_leaves_nothing(storage):
    storage.probe()
    assert storage.list() == []


def test_travels_by_pickle(storage):
    storage.put("a", b"1")
    travelled = pickle.loads(pickle.dumps(storage))
    assert travelled == storage
    assert travelled.get("a") == b"1"
    assert len(pickle.dumps(storage)) < 1000


def test_a_reader_never_sees_a_part(storage):
    old, new = b"o" * 2**18, b"n" * 2**20
    storage.put("a", old)
    done, seen = threading.Event(), set()

    def read():
        while not done.is_set():
            seen.add(storage.get("a"))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(15):
        storage.put("a", new)
        storage.put("a", old)
    done.set()
    reader.join()
    assert seen
    assert seen <= {old, new}


# Opening.


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", S3Storage("s3://bucket")),
        ("s3://bucket/a/b/", S3Storage("s3://bucket/a/b")),
        ("/runs/", FolderStorage("/runs")),
        ("/runs/../other", FolderStorage("/other")),
        ("file:///runs", FolderStorage("/runs")),
        ("file:/runs/a%20b", FolderStorage("/runs/a b")),
        ("runs", FolderStorage(str(Path.cwd() / "runs"))),
        ("./a:b", FolderStorage(str(Path.cwd() / "a:b"))),
        ("~/runs", FolderStorage(str(Path.home() / "runs"))),
    ],
)
def test_opens(url, expected):
    opened = open_storage(url)
    assert opened == expected
    assert (opened.local_path("k") is None) == isinstance(expected, S3Storage)


@pytest.mark.parametrize(
    "url", ["", "gs://bucket/x", "hdfs:x", "s3:/bucket", "s3://", "s3:///x", "file://host/x", "file:x"]
)
def test_refuses_to_open(url):
    with pytest.raises(BadInput, match=r"must be a folder or s3://bucket/prefix") as caught:
        open_storage(url)
    assert f"`--storage {url}`" in str(caught.value)


@pytest.mark.parametrize("url", ["s3://key:hidden@bucket/x", "s3://bucket/x?access_key=k&secret_key=hidden"])
def test_credentials_in_a_url_are_refused_and_not_shown(url):
    with pytest.raises(BadInput, match="AWS_SECRET_ACCESS_KEY") as caught:
        open_storage(url)
    assert "hidden" not in str(caught.value)


def test_boto3_is_imported_at_the_first_call_only():
    code = "import sys, raysweep.storage as s; s.open_storage('s3://b/p').child('c'); sys.exit('boto3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# A folder's failures.


def test_killed_before_the_replace_leaves_the_old_object(tmp_path):
    storage = open_storage(str(tmp_path))
    storage.put("a", b"old")
    code = (
        "import os, sys, pathlib; from raysweep.storage import open_storage\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "open_storage(sys.argv[1]).put('a', b'new')"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert storage.get("a") == b"old"
    assert storage.list() == ["a"]
    assert len(list(tmp_path.iterdir())) == 2, "what was half written is there, under another name"


def test_files_have_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        open_storage(str(tmp_path)).put("a/b", b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "runs").write_text("")
    storage = open_storage(str(tmp_path / "runs/deep"))
    assert "a file stands where a folder should be" in probe_failure(storage)
    with pytest.raises(StorageError, match=f"{storage.url}/key: a file stands"):
        storage.put("key", b"1")


def test_no_permission_holds_for_root_too():
    assert "no permission" in probe_failure(open_storage("/sys/raysweep-tests"))


def test_a_full_disk_keeps_the_old_object_and_no_rest(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a test mount a small disk")
    try:
        storage = open_storage(str(tmp_path))
        storage.put("a", b"old")
        with pytest.raises(StorageError, match=f"{storage.url}/a: the disk is full"):
            storage.put("a", bytes(100_000))
        assert storage.get("a") == b"old"
        assert list(tmp_path.iterdir()) == [tmp_path / "a"]
        (tmp_path / "filler").write_bytes(bytes(60 * 1024))
        assert "the disk is full" in probe_failure(storage)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# S3's failures.


def test_nobody_listens(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.free_ports(1)[0]}")
    message = probe_failure(open_storage(bucket))
    assert "unreachable (EndpointConnectionError): start the store, or correct AWS_ENDPOINT_URL" in message


def test_nobody_answers(faulty, s3_proxy):
    s3_proxy.hang()
    assert "unreachable" in probe_failure(faulty)


def test_an_answer_that_comes_after_the_deadline(tmp_path, monkeypatch):
    # A dead network mount: the call does not return, and no time limit can be set on it.
    released = threading.Event()
    monkeypatch.setattr(FolderStorage, "put", lambda *_: released.wait(10))
    monkeypatch.setattr("raysweep.storage.base.PROBE_SECONDS", 0.5)
    assert "unreachable, no answer in 0.5 s" in probe_failure(open_storage(str(tmp_path)))
    released.set()


def test_an_endpoint_that_is_no_url(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "store:8333")
    with pytest.raises(StorageError, match=f"{bucket}: unreachable .* AWS_ENDPOINT_URL"):
        open_storage(bucket).probe()


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("AWS_SECRET_ACCESS_KEY", r"no permission (SignatureDoesNotMatch)"),
        ("AWS_ACCESS_KEY_ID", r"no permission (InvalidAccessKeyId)"),
    ],
)
def test_wrong_credentials(bucket, monkeypatch, name, cause):
    monkeypatch.setenv(name, "wrong-and-private")
    message = probe_failure(open_storage(bucket), "wrong-and-private")
    assert f"{cause}: correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in message


def test_no_credentials(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    message = probe_failure(open_storage(bucket))
    assert "no credentials (NoCredentialsError): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in message


@pytest.mark.parametrize(
    ("cluster", "found"),
    [
        ({}, "here those of AWS_SHARED_CREDENTIALS_FILE"),
        ({"AWS_SHARED_CREDENTIALS_FILE": ""}, "here none of AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_SHARED"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "here those of AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_job_says_whose_credentials_count(bucket, monkeypatch, cluster, found):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    message = probe_failure(open_storage(bucket))
    assert f"a job has the keys that its cluster or `--env` gives it, {found}" in message
    assert "give it others with `--env AWS_ACCESS_KEY_ID --env AWS_SECRET_ACCESS_KEY`" in message


def test_no_such_bucket(bucket, s3_server):
    storage = open_storage("s3://nobody-made-this/runs")
    assert "no such bucket (NoSuchBucket): create it" in probe_failure(storage, s3_server.secret_key)
    for call in (storage.get, storage.list):
        with pytest.raises(StorageError, match="s3://nobody-made-this/runs/key: no such bucket"):
            call("key")


def test_a_bucket_name_that_cannot_be(bucket):
    assert "refused (ParamValidationError)" in probe_failure(open_storage("s3://Not a bucket/runs"))


def test_a_store_out_of_order(faulty, s3_proxy):
    s3_proxy.unavailable()
    assert "the store is not available (ServiceUnavailable)" in probe_failure(faulty, s3_proxy.secret_key)
    assert len(s3_proxy.requests) == 1, "a probe does not try again"


def test_something_else_answers_there(faulty, s3_proxy):
    s3_proxy.refuse("PutObject", status=404)
    assert "refused (404)" in probe_failure(faulty)


def test_a_store_that_forgets(faulty, s3_proxy):
    s3_proxy.lose("PutObject")
    assert "does not give back what was written" in probe_failure(faulty)


def test_a_store_that_damages(faulty, s3_proxy):
    s3_proxy.lose("PutObject", keep=10)
    assert "does not give back what was written" in probe_failure(faulty)


def test_threads_that_begin_at_the_same_time_share_what_moves_their_files(bucket):
    place, together = open_storage(bucket), threading.Barrier(8)
    s3_storage._s3_client.cache_clear()
    s3_storage._transfer_manager.cache_clear()

    def move(number):
        together.wait(10)
        place.put_file(f"{number}", io.BytesIO(b"1"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(move, range(8)))
    assert s3_storage._s3_client.cache_info().misses == 1
    assert s3_storage._transfer_manager.cache_info().misses == 1


def test_a_short_outage_is_waited_for(faulty, s3_proxy):
    s3_proxy.unavailable(requests=3)
    faulty.put("a", b"1")
    assert faulty.get("a") == b"1"
    puts = [key for operation, key in s3_proxy.requests if operation == "PutObject"]
    assert puts == ["runs/a"] * 4


def test_a_sweep_waits_for_a_store_that_is_away_and_a_command_does_not(faulty, s3_proxy):
    s3_proxy.unavailable()
    with pytest.raises(Unavailable, match="the store is not available"):
        faulty.put("a", b"1")
    timer = threading.Timer(8, s3_proxy.heal)
    timer.start()
    try:
        faulty.patient().child("b").put("a", b"1")  # botocore's own tries last 2 s at most
        assert timer.finished.is_set()
    finally:
        timer.cancel()
        timer.join()
    assert faulty.get("b/a") == b"1"


def test_an_object_whose_creation_was_not_answered_is_still_ours(faulty, s3_proxy):
    s3_proxy.drop_answer("PutObject", key="lease")
    assert faulty.create("lease/000001.json", b"mine")
    assert not faulty.create("lease/000001.json", b"yours")


def test_a_part_that_fails_once_is_sent_again(faulty, s3_proxy):
    data = os.urandom(2 * LARGE + 1)
    s3_proxy.refuse("UploadPart", nth=2, status=500)
    faulty.put("a", data)
    assert faulty.get("a") == data


def test_a_refused_part_fails_the_put_and_leaves_the_old_object(faulty, s3_proxy):
    faulty.put("a", b"old")
    s3_proxy.refuse("UploadPart", nth=2, status=403)
    with pytest.raises(StorageError, match=rf"{faulty.url}/a: no permission \(AccessDenied\)") as caught:
        faulty.put("a", os.urandom(2 * LARGE + 1))
    assert s3_proxy.secret_key not in str(caught.value)
    assert faulty.get("a") == b"old"
    assert ("AbortMultipartUpload", "runs/a") in s3_proxy.requests


def test_a_file_is_read_anew_when_the_store_is_back(faulty, s3_proxy):
    data = os.urandom(LARGE + 1)
    s3_proxy.unavailable(requests=S3_TRIES + 1)
    faulty.patient().put_file("a", io.BytesIO(data))
    assert faulty.get("a") == data


def test_a_file_survives_a_store_that_refuses_every_7th_part(faulty, s3_proxy):
    data = os.urandom(15 * LARGE)
    s3_proxy.refuse("UploadPart", every=7, status=503)
    assert faulty.put_file("a", io.BytesIO(data)) == faulty.get_file("a")
    assert [operation for operation, _ in s3_proxy.requests].count("UploadPart") == 17


def test_a_part_that_is_refused_for_good_fails_the_file_and_leaves_the_old_object(faulty, s3_proxy):
    faulty.put("a", b"old")
    s3_proxy.refuse("UploadPart", nth=2, status=403)
    with pytest.raises(StorageError, match=rf"{faulty.url}/a: no permission \(AccessDenied\)"):
        faulty.put_file("a", io.BytesIO(os.urandom(2 * LARGE + 1)))
    assert faulty.get("a") == b"old"
    assert ("AbortMultipartUpload", "runs/a") in s3_proxy.requests


@pytest.mark.parametrize("keep", [0, LARGE - 1])
def test_a_lost_part_is_noticed(faulty, s3_proxy, keep):
    s3_proxy.lose("UploadPart", nth=2, keep=keep)
    with pytest.raises(Corrupt, match=f"{faulty.url}/a: the store has lost a part of what was written"):
        faulty.put_file("a", io.BytesIO(os.urandom(2 * LARGE)))


def test_an_answer_that_breaks_off_is_asked_for_again(faulty, s3_proxy):
    data = os.urandom(3 * LARGE)
    faulty.put("a", data)
    s3_proxy.drop_answer("GetObject", nth=3)
    back = io.BytesIO()
    faulty.get_file("a", back)
    assert back.getvalue() == data
