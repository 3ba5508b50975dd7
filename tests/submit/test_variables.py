"""Which variables a job is given, and what is said of those that it cannot have; never a value."""

from __future__ import annotations

import os

import pytest

from raysweep.clusters.targets import Cluster
from raysweep.errors import BadInput
from raysweep.submit import variables
from raysweep.submit.request import JobRequest

SECRET = "hush-5551"


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SET_HERE", SECRET)
    monkeypatch.setenv("EMPTY_HERE", "")
    monkeypatch.delenv("UNSET_HERE", raising=False)


def test_values_are_those_of_the_shell_or_of_the_command_line() -> None:
    given = ("SET_HERE", "EMPTY_HERE", "A=x=y z", "B=", "_c1=é", "AWS_PROFILE=team")
    assert variables.parse(given) == {
        "SET_HERE": SECRET, "EMPTY_HERE": "", "A": "x=y z", "B": "", "_c1": "é", "AWS_PROFILE": "team",
    }  # fmt: skip
    assert SECRET not in repr(JobRequest("asha", "first", variables=variables.parse(given)))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("UNSET_HERE", "`--env UNSET_HERE`: is not set in this shell: export it, or use --env UNSET_HERE=VALUE"),
        (f"{SECRET}", "`--env` number 1: does not begin with a name"),  # a value in the place of a name
        (f"1A={SECRET}", "`--env` number 1: does not begin with a name"),
        (f"={SECRET}", "`--env` number 1: does not begin with a name"),
        ("", "`--env` number 1: does not begin with a name"),
        (f"PATH={SECRET}", "`--env PATH`: no job can be given it: a process reads it when it starts"),
        (f"PYTHONPATH={SECRET}", "`--env PYTHONPATH`: no job can be given it"),
        (f"LD_PRELOAD={SECRET}", "`--env LD_PRELOAD`: no job can be given it"),
        (f"CUDA_VISIBLE_DEVICES={SECRET}", "Ray gives each trial its own GPUs: use --gpus-per-trial"),
        (f"RAY_ADDRESS={SECRET}", "`--env RAY_ADDRESS`: no job can be given it: it is Ray's own"),
        (f"RAYSWEEP_STORAGE={SECRET}", "has a flag where a job may have another value, such as --storage"),
        (f"A={SECRET * 6000}", "bytes of names and values, and a job can be given 49152"),
    ],
)
def test_what_no_job_can_have_is_told_without_its_value(given: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        variables.parse([given])
    (problem,) = caught.value.problems
    assert told in problem
    assert SECRET not in problem


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        variables.parse(["UNSET_HERE", "A=1", "A=2", "PATH"])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "`--env UNSET_HERE`", "`--env A`", "`--env PATH`",
    ]  # fmt: skip
    assert "is given twice" in caught.value.problems[1]


def cluster(target: str = "local", storage: str = "/runs") -> Cluster:
    return Cluster(target, "id", "", "", storage, "")


@pytest.mark.parametrize(
    ("where", "request_"),
    [
        (cluster(), {"storage": "s3://mine/x"}),
        (cluster(), {"data": "s3://mine/x"}),
        (cluster(storage="s3://mine"), {}),
    ],
)
def test_a_local_cluster_gets_the_s3_settings_of_the_shell(
    where: Cluster, request_: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id-of-mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    given = variables.of_shell(where, JobRequest("asha", "first", **request_))
    assert given["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert given["AWS_SESSION_TOKEN"] is None, "an old one of the cluster's does not go with the shell's key"
    told = capsys.readouterr().err
    assert "the job gets AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY of this shell" in told
    assert SECRET not in told
    assert "id-of-mine" not in told


def test_an_address_alone_takes_no_keys_from_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    request = JobRequest("asha", "first", storage="s3://mine")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/mine.pem")
    assert variables.of_shell(cluster(), request) == {}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store")
    expected = {"AWS_CA_BUNDLE": "/etc/mine.pem", "AWS_ENDPOINT_URL": "http://store"}
    assert variables.of_shell(cluster(), request) == expected


@pytest.mark.parametrize(
    ("where", "storage", "has_keys"),
    [
        (cluster(), "/runs", True),  # nothing in S3
        (cluster(), "s3://mine", False),  # the cluster's own environment may have some
        (cluster("docker"), "s3://mine", True),  # it has keys of its own
        (cluster("k8s"), "s3://mine", True),
        (None, "s3://mine", True),  # a cluster that somebody else started
    ],
)
def test_otherwise_the_settings_of_the_shell_stay_here(
    where: Cluster | None, storage: str, has_keys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_keys:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    assert variables.of_shell(where, JobRequest("asha", "first", storage=storage)) == {}
