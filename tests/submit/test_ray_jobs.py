"""Jobs on a real cluster: what they are given, what comes back, who is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from raysweep.submit import submit
from raysweep.submit.connection import connect
from tests.clusters.test_lifecycle import LOOPBACK, listening
from tests.ray_project import make_project
from tests.waiting import within

pytest_plugins = ["tests.ray_cluster"]

AWKWARD = 'it\'s $HOME; `id` "q" *'


def seen(log: str) -> dict:
    """What the probe job printed about itself."""
    line = next(line for line in log.splitlines() if line.startswith("seen "))
    return json.loads(line.removeprefix("seen "))


@pytest.fixture(scope="module")
def runs(local_cluster, tmp_path_factory):
    """Five jobs, submitted at once: sweeps that end with 0, 1 and 2, plain Ray's, and another project's."""
    other = make_project(tmp_path_factory.mktemp("other"))
    (other.folder / ".raysweep").mkdir()
    (other.folder / ".raysweep" / "token").write_text(local_cluster.token)
    common = ("submit", "probe", "--task", "digits", "--storage", "here", "--data", "../pictures", "--code")
    plain = ("-m", "ray.scripts.scripts", "job", "submit", "--working-dir", ".", "--", "python", "jobs/probe.py")
    exports = local_cluster.ray_env
    with ThreadPoolExecutor() as pool:
        runs = {n: pool.submit(local_cluster.run, *common, str(n), "--name", f"code-{n}", AWKWARD) for n in range(3)}
        runs["plain"] = pool.submit(local_cluster.python, *plain, **exports)
        runs["other"] = pool.submit(other.run, "submit", "probe", RAYSWEEP_STORAGE="mine", **exports)
        return {key: run.result() for key, run in runs.items()} | {"folder": other.folder}


@pytest.fixture(scope="module")
def ended(runs):
    return [runs[n] for n in range(3)]


def test_exit_codes_come_through(ended):
    assert [run.returncode for run in ended] == [0, 1, 2], [run.stdout for run in ended]


def test_arguments_arrive_as_given(ended, local_cluster):
    storage = str(local_cluster.folder / "here")
    pictures = str(local_cluster.folder / "../pictures")
    given = ["--task", "digits", "--name", "code-0", "--storage", storage, "--data", pictures]
    expected = [*given, "--code", "0", AWKWARD]
    assert seen(ended[0].stdout)["arguments"] == expected


def test_storage_comes_from_the_cluster(ended, local_cluster):
    assert seen(ended[0].stdout)["storage"] == str(local_cluster.folder / "runs")


def test_secret_stays_at_home(ended, local_cluster):
    assert all(local_cluster.token not in run.stdout for run in ended)
    assert not seen(ended[0].stdout)["token_uploaded"]
    assert not [file for file in seen(ended[0].stdout)["files"] if file.startswith((".raysweep", "runs", ".git/"))]


def test_status_lists_newest_first(ended, local_cluster):
    rows = [line.split() for line in local_cluster.run("status").stdout.splitlines()]
    assert rows[0] == ["JOB", "STATUS", "EXIT", "SECONDS", "TASK", "NAME"]
    assert {(row[1], row[2], row[5]) for row in rows[1:] if row[-1].startswith("code-")} == {
        ("SUCCEEDED", "0", "code-0"),
        ("FAILED", "1", "code-1"),
        ("FAILED", "2", "code-2"),
    }
    one = local_cluster.run("status", "code-2").stdout.splitlines()
    assert len(one) == 2


def test_job_can_be_given_by_name_and_by_id(ended, local_cluster):
    by_name = local_cluster.run("logs", "code-1").stdout
    submit = by_name.split("entrypoint for job ")[1].split(":")[0]
    assert submit.startswith("probe-code-1-")
    assert local_cluster.run("logs", submit).stdout == by_name
    assert local_cluster.run("logs", submit, "--follow").returncode == 1


def test_the_log_is_in_the_storage_too(ended, local_cluster):
    for code in range(3):
        kept = local_cluster.run("logs", f"code-{code}", "--follow", "--storage", "here")
        assert kept.returncode == code
        said, *lines = kept.stdout.splitlines()
        assert said.startswith(f"the log of probe-code-{code}-")
        assert lines[-1] == f"exit code {code}"
        assert seen("\n".join(lines)) == seen(ended[code].stdout)
        assert local_cluster.token not in kept.stdout


def test_unknown_job_names_the_nearest(ended, local_cluster):
    unknown = local_cluster.run("logs", "kode-1")
    assert unknown.returncode == 2
    assert "there is no job `kode-1` (did you mean `code-1`?)" in unknown.stdout


def test_interrupt_detaches_and_stop_stops(local_cluster):
    command = local_cluster.command("submit", "probe", "--name", "held", "--hold")
    with subprocess.Popen(
        command, cwd=local_cluster.folder, env=local_cluster.env, stdout=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout is not None
        log = iter(follower.stdout.readline, "")
        assert any(line.startswith("worker ") for line in log)
        assert {ip for ip, _ in listening(local_cluster.cluster.id)} <= LOOPBACK  # with a worker and a driver
        follower.send_signal(signal.SIGINT)
        rest = follower.stdout.read()
    assert follower.returncode == submit.DETACHED
    assert "raysweep logs probe-held-" in rest
    assert "raysweep stop probe-held-" in rest
    assert "RUNNING" in local_cluster.run("status", "held").stdout
    assert "STOPPED" in local_cluster.run("stop", "held").stdout
    assert local_cluster.run("logs", "held", "--follow").returncode == 1


def test_a_killed_job_ends_its_follower_with_a_hint_how_to_continue(local_cluster):
    command = local_cluster.command("submit", "probe", "--name", "killed", "--hold")
    with subprocess.Popen(
        command,
        cwd=local_cluster.folder,
        env=local_cluster.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as follower:
        assert follower.stdout is not None
        log = iter(follower.stdout.readline, "")
        first = seen(next(line for line in log if line.startswith("seen ")))
        os.kill(first["pid"], signal.SIGKILL)
        assert any("was killed: to continue its sweep, submit it again with --resume auto" in line for line in log)
    assert follower.returncode == 1
    assert [row.split()[1] for row in local_cluster.run("status", "killed").stdout.splitlines()[1:]] == ["FAILED"]


def test_a_job_whose_environment_cannot_be_set_up_tells_why(local_cluster):
    client = connect(local_cluster.folder)
    gone = {"working_dir": "gcs://_ray_pkg_0123456789abcdef.zip"}
    client.submit_job(entrypoint="true", submission_id="gone", metadata={"name": "gone"}, runtime_env=gone)
    assert submit.wait(local_cluster.folder, client, "gone").status == "FAILED"
    logs = local_cluster.run("logs", "gone", "--follow")
    assert logs.returncode == 1
    told = [line for line in logs.stdout.splitlines() if line.startswith("error: gone failed without an exit code: ")]
    assert len(told) == 1
    assert "runtime_env setup failed: Failed to set up runtime environment. … OSError: Failed to download" in told[0]
    assert told[0].endswith("the whole message is in the dashboard, under Jobs")
    assert "Traceback" not in logs.stdout
    assert told[0] in local_cluster.run("status", "gone").stdout
    assert "failed without" not in local_cluster.run("status").stdout  # of all jobs, it is a table


def test_a_job_whose_supervisor_was_killed_tells_why(local_cluster):
    command = local_cluster.command("submit", "probe", "--name", "unwatched", "--hold")
    with subprocess.Popen(
        command,
        cwd=local_cluster.folder,
        env=local_cluster.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as follower:
        assert follower.stdout is not None
        log = iter(follower.stdout.readline, "")
        first = seen(next(line for line in log if line.startswith("seen ")))
        above = psutil.Process(first["pid"]).parents()
        next(each for each in above if "JobSupervisor" in " ".join(each.cmdline())).kill()
        rest = list(log)
    assert follower.returncode == 1
    assert any("was killed: to continue its sweep, submit it again with --resume auto" in line for line in rest), rest
    told = local_cluster.run("status", "unwatched").stdout
    assert "failed without an exit code: Job supervisor actor died: The actor died unexpectedly" in told


def test_a_wrong_flag_is_told_before_the_job_is_sent(local_cluster):
    refused = local_cluster.run("submit", "asha", "--name", "unsent", "--sampels", "3", "--nan", "never")
    assert refused.returncode == 2
    assert refused.stdout.splitlines() == [
        "error: `--sampels` is not a flag of this job (did you mean `--samples`?); see --help",
        "error: `--nan never`: must be 'stop', 'fail' or 'worst'",
    ]
    assert local_cluster.run("status", "unsent").stdout == "no jobs\n"


def test_plain_ray_job_submit(runs):
    """With the printed exports alone; .rayignore keeps the secret at home."""
    assert runs["plain"].returncode == 0, runs["plain"].stdout
    assert not seen(runs["plain"].stdout)["token_uploaded"]


@pytest.mark.parametrize("env", [{}, {"RAY_AUTH_TOKEN": "wrong"}])
def test_plain_ray_job_submit_is_refused(local_cluster, env):
    address = {"RAY_API_SERVER_ADDRESS": local_cluster.cluster.dashboard, "RAY_AUTH_MODE": "token"}
    run = local_cluster.python("-m", "ray.scripts.scripts", "job", "list", **address, **env)
    assert run.returncode != 0
    assert "AuthenticationError" in run.stdout
    assert "RAY_AUTH_TOKEN" in run.stdout


def test_other_project_with_address_and_token(runs):
    """Without a cluster.json the variables decide; without .rayignore our own excludes do."""
    log = runs["other"].stdout
    assert runs["other"].returncode == 0, log
    assert not seen(log)["token_uploaded"]
    assert seen(log)["storage"] == str(runs["folder"] / "mine")


def test_other_project_without_token(local_cluster, tmp_path):
    address = {"RAY_API_SERVER_ADDRESS": local_cluster.cluster.dashboard}
    refused = make_project(tmp_path).run("submit", "probe", **address)
    assert refused.returncode == 2
    assert "none is set: set RAY_AUTH_TOKEN_PATH" in refused.stdout


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"RAY_AUTH_TOKEN": "wrong"}, "refuses the token of RAY_AUTH_TOKEN: set RAY_AUTH_TOKEN_PATH"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "the token file /nowhere cannot be read"),
    ],
)
def test_wrong_token_names_the_variable(local_cluster, env, problem):
    with within(5):
        refused = local_cluster.run("submit", "probe", **env)
    assert refused.returncode == 2
    assert problem in refused.stdout
    assert len(refused.stdout.splitlines()) == 1
