"""Who follows a job through a cluster that breaks off, comes back, or has forgotten it; the cluster is a double."""

from __future__ import annotations

import shlex
from types import SimpleNamespace

import pytest
from tenacity import wait_none

from raysweep.clusters import lifecycle, targets
from raysweep.errors import ClusterError
from raysweep.submit import log_to_storage, ray_jobs, submit
from raysweep.submit.request import JobRequest

LOG = ["one\n", "two\n", "three\n"]


class Cluster:
    """Stands in for Ray's client. Each entry of `answers` is what `list_jobs` does next: a status, None for a cluster
    that has forgotten its jobs, or an error; the last one stays.

    Attributes:
        breaks: how many chunks each further log has before it breaks off.
        refusals: what `submit_job` raises, one after the other; with `taken` the job is there all the same.
        message: Ray's, of a job that failed before it had a driver.
    """

    def __init__(self, answers, breaks=(), refusals=(), taken=False, message=None):
        self.answers, self.breaks, self.refusals, self.taken = list(answers), list(breaks), list(refusals), taken
        self.message = message
        self.commands, self.ids, self.connects = [], [], 0
        self.when_forgotten = lambda: None

    def connect(self, project):
        self.connects += 1
        return self

    def submit_job(self, entrypoint, submission_id, runtime_env, metadata):
        self.metadata = metadata
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is None or self.taken:
            self.commands.append(entrypoint)
            self.ids.append(submission_id)
        if refusal:
            raise refusal

    def list_jobs(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self.when_forgotten()
        return [
            SimpleNamespace(
                submission_id=each, status=SimpleNamespace(value=answer), metadata={}, start_time=1, end_time=None,
                driver_exit_code=3 if answer == "FAILED" and not self.message else None, error_type=None,
                message=self.message,
            )
            for each in (self.ids if answer else [])
        ]  # fmt: skip

    async def tail_job_logs(self, submission_id):
        whole = LOG[: self.breaks.pop(0)] if self.breaks else None
        for lines in LOG if whole is None else whole:
            yield lines
        if whole is not None:
            raise OSError("broken")


@pytest.fixture
def follow(monkeypatch, tmp_path):
    """Submits to such a cluster, and follows."""
    for module in (ray_jobs, submit):
        monkeypatch.setattr(module, "wait_exponential", lambda **_: wait_none())

    def run(cluster, request=JobRequest("asha", "first")):  # noqa: B008 - it is frozen
        for module in (ray_jobs, submit):
            monkeypatch.setattr(module, "connect", cluster.connect)
        return ray_jobs.submit(tmp_path, request)

    return run


@pytest.mark.parametrize(
    ("given", "where"), [(None, ""), ("s3://bucket/sweeps/", "s3://bucket/sweeps/"), ("/mnt/it's", "/mnt/it's/")]
)
def test_its_output_goes_to_the_storage_of_the_sweep_too(follow, given, where):
    cluster = Cluster(["SUCCEEDED"])
    assert follow(cluster, JobRequest("asha", "first", storage=given)) == 0
    place = f"{where}first/logs/{cluster.ids[0]}"
    wrapper, job = log_to_storage.command(place), shlex.split(cluster.commands[0])
    assert job[: len(wrapper)] == wrapper
    assert job[len(wrapper) : len(wrapper) + 3] == ["python", "-m", "raysweep.jobs.asha"]
    assert cluster.metadata["log"] == place


def test_a_cluster_that_is_silent_for_a_while_has_lost_nothing(follow, capsys):
    unready = RuntimeError("Request failed with status code 503: ")
    cluster = Cluster(["RUNNING", OSError("away"), unready, "RUNNING", "RUNNING", "FAILED"], breaks=[1, 0, 2])
    assert follow(cluster) == 3
    assert len(cluster.commands) == 1
    assert cluster.connects == 3, "once to submit, and after each silence"
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == ["one", "two", "three", f"{cluster.ids[0]}: FAILED"], "each line once"
    assert err.count("broke off") == 3


@pytest.fixture
def resubmits(monkeypatch):
    """The project's cluster is one of a target that submits lost jobs again."""
    own = targets.Cluster("docker", "id", "http://127.0.0.1:8265", "", "s3://raysweep", "")
    monkeypatch.setattr(lifecycle, "read", lambda project: own)
    monkeypatch.setattr(submit, "wait_fixed", lambda _: wait_none())


def test_a_job_that_the_cluster_submits_again_is_followed_in_its_next_life(follow, resubmits, capsys):
    cluster = Cluster(["RUNNING", OSError("away"), None, OSError("away"), None, "SUCCEEDED"], breaks=[1])
    cluster.when_forgotten = lambda: cluster.ids.append(f"{cluster.ids[0]}-life2")
    assert follow(cluster) == 0
    assert len(cluster.commands) == 1, "the follower itself submits nothing again"
    out, err = capsys.readouterr()
    assert f"no longer knows {cluster.ids[0]}: waiting until the cluster submits it again, as {cluster.ids[1]}" in err
    assert f"{cluster.ids[1]}: SUCCEEDED" in out


def test_a_job_that_the_cluster_does_not_submit_again_in_time_is_lost(follow, resubmits, monkeypatch):
    monkeypatch.setattr(submit, "NEXT_LIFE_S", 0.1)
    with pytest.raises(submit.JobLost, match=r"has not submitted it again within .* with --resume auto"):
        follow(Cluster([None]))


def test_without_a_resubmitter_a_lost_job_is_reported_at_once(follow):
    cluster = Cluster([None])
    with pytest.raises(submit.JobLost, match="to continue its sweep, submit it again with --resume auto"):
        follow(cluster)
    assert len(cluster.commands) == 1


def test_a_cluster_that_stays_silent_is_reported(follow, monkeypatch):
    monkeypatch.setattr(submit, "CLUSTER_BACK_S", 0.1)
    with pytest.raises(ClusterError, match=r"no longer reports the state of asha-first-.*: away"):
        follow(Cluster([OSError("away")]))


def test_a_submission_to_a_cluster_that_is_not_ready_is_retried(follow, capsys):
    unready = RuntimeError("Request failed with status code 500: No available agent to submit job.")
    cluster = Cluster(["SUCCEEDED"], refusals=[unready, OSError("reset")])
    assert follow(cluster) == 0
    assert len(cluster.ids) == 1
    assert capsys.readouterr().err.count("the cluster cannot start jobs yet") == 2


def test_a_submission_whose_answer_was_lost_is_not_made_twice(follow):
    cluster = Cluster(["SUCCEEDED"], refusals=[OSError("reset")], taken=True)
    assert follow(cluster) == 0
    assert len(cluster.ids) == 1


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no room for it", "no room for it"),
        (
            " first\n\n  a trace\n  ValueError: last \n",
            "first … ValueError: last; the whole message is",
        ),
        ("long " * submit.REASON_LENGTH, "long long "),
        ("\n", "Ray does not say why"),
    ],
)
def test_a_job_that_never_had_a_driver_tells_its_follower_why(follow, message, told, capsys):
    cluster = Cluster(["PENDING", "FAILED"], message=message)
    assert follow(cluster) == 1
    out, err = capsys.readouterr()
    assert f"{cluster.ids[0]}: FAILED" in out
    (line,) = err.splitlines()
    assert line.startswith(f"error: {cluster.ids[0]} failed without an exit code: {told}")
    assert len(line) < 2 * submit.REASON_LENGTH


def test_a_refusal_is_reported_at_once(follow):
    cluster = Cluster(["SUCCEEDED"], refusals=[RuntimeError("Request failed with status code 400: bad env")])
    with pytest.raises(ClusterError, match=r"did not take the job: .*bad env"):
        follow(cluster)
    assert cluster.ids == []


@pytest.mark.parametrize(
    ("statuses", "requested", "expected"),
    [
        (["RUNNING", "FAILED"], "first", "id-0"),  # the second submit was refused
        (["FAILED", "RUNNING"], "first", "id-1"),
        (["FAILED", "SUCCEEDED"], "first", "id-1"),
        (["RUNNING", "FAILED"], "id-1", "id-1"),
    ],
)
def test_a_name_is_the_job_that_runs_the_sweep_else_its_newest(statuses, requested, expected):
    jobs = [
        SimpleNamespace(
            submission_id=f"id-{number}", status=SimpleNamespace(value=status), metadata={"name": "first"},
            start_time=number + 1, end_time=None, driver_exit_code=None, error_type=None, message=None,
        )
        for number, status in enumerate(statuses)
    ]  # fmt: skip
    assert submit.find(SimpleNamespace(list_jobs=lambda: jobs), requested).id == expected
