"""The docker target without an engine: its checks, the files that it writes, and the files in docker/."""

from __future__ import annotations

import json
import os
import re
import runpy
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from raysweep import env
from raysweep.cli import cli
from raysweep.clusters import docker, lifecycle, targets
from raysweep.clusters.shared import s3_keys
from raysweep.clusters.targets import Cluster, Options
from raysweep.driver import capacity
from raysweep.errors import BadInput, ClusterError
from raysweep.storage import dataset
from raysweep.submit import connection

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
LOCK = {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}


def test_a_worker_without_space_is_not_healthy() -> None:
    check = composed("compose.yaml")["services"]["worker"]["healthcheck"]["test"][1]
    enough = check.rpartition("&& ")[2].replace("$$", "$")
    small, large = (enough.replace("-ge 64", f"-ge {megabytes}") for megabytes in (10**9, 0))
    assert subprocess.run(["sh", "-c", small], check=False).returncode == 1
    assert subprocess.run(["sh", "-c", large], check=False).returncode == 0


def composed(*files: str, **settings: str) -> dict:
    """What compose makes of its files; it needs no engine for that."""
    program = Path(sys.executable).with_name("docker-compose")
    flags = [flag for file in files for flag in ("--file", str(DOCKER / file))]
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | settings
    done = subprocess.run([program, *flags, "config", "--format=json"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def engine(monkeypatch):
    """An engine of four CPUs that has the images, as far as the target looks."""
    answers = {"info": "4", "image": "[{}]", "compose": "v5"}
    monkeypatch.setattr(docker.shutil, "which", lambda name, **_: f"/bin/{name}")
    monkeypatch.setattr(docker, "_docker", lambda *arguments: answers[arguments[0]])
    monkeypatch.setattr(docker.ports, "problems", lambda ports: [])
    return answers


@pytest.fixture
def project(tmp_path):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "compose.yaml").touch()
    (tmp_path / ".raysweep").mkdir()
    return tmp_path


def cluster_of(folder: Path) -> Cluster:
    """A cluster with these settings."""
    return Cluster("docker", "x", "http://x", "", s3_keys.STORAGE, "token", settings=str(folder / "compose.env"))


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        ("docker", "`docker` is not installed: see https://docs.docker.com/engine/install"),
        ("docker-compose", "neither `docker compose` nor `docker-compose` is installed: see https://docs.docker.com/"),
    ],
)
def test_a_missing_tool_is_named_with_how_to_get_it(project, engine, monkeypatch, missing, problem):
    engine["compose"] = ""
    monkeypatch.setattr(docker.shutil, "which", lambda name, **_: None if name == missing else f"/bin/{name}")
    with pytest.raises(BadInput, match=re.escape(problem)):
        docker._check(Options())


def test_an_engine_that_is_not_running_is_named(project, engine):
    engine["info"] = ""
    with pytest.raises(BadInput, match="the Docker engine does not answer"):
        docker._check(Options())


def test_an_engine_that_is_not_ours_to_use_has_docker_say_so(project, engine, monkeypatch):
    engine["info"] = ""
    refusal = subprocess.CompletedProcess([], 1, "", "Client: 29\npermission denied at docker.sock\n")
    monkeypatch.setattr(docker, "_run", lambda command: refusal)
    with pytest.raises(BadInput, match=r"does not answer \(permission denied at docker.sock\): start it"):
        docker._check(Options())


def test_the_containers_logs_are_kept_of_a_start_that_failed(project, monkeypatch):
    def fails(cluster, *arguments):
        raise ClusterError("`docker compose up` failed: container head is unhealthy")

    monkeypatch.chdir(project)
    monkeypatch.setattr(docker, "_compose", fails)
    monkeypatch.setattr(docker, "_logs", lambda cluster, lines: f"{lines} lines of the head\n")
    with pytest.raises(ClusterError, match=r"is unhealthy\n30 lines of the head\nall of it: .*containers.log"):
        docker._up(cluster_of(project))
    assert "1000 lines of the head" in (project / ".raysweep" / "logs" / "containers.log").read_text()


def test_all_problems_are_reported_at_once(tmp_path, engine):
    engine["image"] = ""
    with pytest.raises(BadInput) as refused:
        docker._check(Options(workers=0, num_cpus=9))
    assert refused.value.problems == (
        "`--workers 0`: must be at least 1",
        "`--num-cpus 9`: the Docker engine has 4 CPUs: ask for at most that",
        "there is no image raysweep:local and raysweep-store:local: build them with `raysweep image`",
    )


@pytest.mark.parametrize(
    ("target", "options", "flag"),
    [("local", Options(workers=2), "--workers"), ("docker", Options(port=6379), "--port")],
)
def test_an_option_that_a_target_cannot_take_is_named_before_anything_starts(tmp_path, target, options, flag):
    with pytest.raises(BadInput, match=f"`{flag}`: the target {target} takes --"):
        lifecycle.up(tmp_path, target, options)
    assert not (tmp_path / ".raysweep").exists()


def test_settings_without_a_flag_come_from_the_environment_and_stay(project, monkeypatch):
    folder = project / ".raysweep"
    assert docker._settings(folder, Options(), cpus=2)["RAYSWEEP_TMP"] == "2g"
    monkeypatch.setenv("RAYSWEEP_TMP", "9g")
    monkeypatch.setenv("RAYSWEEP_HEAD_MEMORY", "8g")
    docker._write(folder / "compose.env", docker._settings(folder, Options(), cpus=2))
    monkeypatch.setenv("RAYSWEEP_TMP", "3g")
    monkeypatch.delenv("RAYSWEEP_HEAD_MEMORY")
    again = docker._settings(folder, Options(), cpus=2)
    assert (again["RAYSWEEP_TMP"], again["RAYSWEEP_HEAD_MEMORY"]) == ("3g", "8g")


def test_compose_reads_the_settings_unchanged(tmp_path):
    """Whatever characters the project's path has."""
    folder = tmp_path / """a b#c $d ${e} 'f' "g" """.strip()
    folder.mkdir()
    settings = docker._settings(folder, Options(), cpus=2)
    docker._write(folder / "compose.env", settings)
    assert docker._read(folder / "compose.env") == settings
    program = Path(sys.executable).with_name("docker-compose")
    command = [program, "--env-file", folder / "compose.env", "config", "--format=json"]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True)
    made = json.loads(done.stdout)
    assert made["name"] == settings["COMPOSE_PROJECT_NAME"]
    assert made["secrets"]["ray_token"]["file"].replace("$$", "$") == f"{folder}/token"
    assert made["services"]["head"]["volumes"][0]["source"].replace("$$", "$") == f"{folder}/nodes"


def test_drivers_can_read_the_intended_workers(project, engine, monkeypatch):
    """Where `capacity` looks, and anew after `scale`; the head alone sees it, and is not made anew for it."""
    folder = project / ".raysweep"
    up = []
    monkeypatch.setattr(docker, "_up", lambda cluster, *arguments: up.append(arguments))
    settings = docker._settings(folder, Options(num_cpus=2), cpus=8)
    docker._write(folder / "compose.env", settings)
    docker._write_nodes(folder, settings)
    path = folder / "nodes" / capacity.FILE.name
    assert json.loads(path.read_text()) == [{"count": 2, "CPU": 2}]
    docker.Docker().scale(cluster_of(folder), 5)
    assert json.loads(path.read_text()) == [{"count": 5, "CPU": 2}]
    assert up == [("--no-recreate", "--no-deps", "worker")]
    mounted = composed("compose.yaml")["services"]["head"]["volumes"][0]
    assert (mounted["target"], mounted["read_only"]) == (str(capacity.FILE.parent), True)


def test_gpus_are_for_one_worker_and_counted(project, engine, monkeypatch):
    folder = project / ".raysweep"
    monkeypatch.setattr(docker, "_gpus", lambda: 0)
    with pytest.raises(BadInput) as refused:
        docker._check(Options(gpus=True, workers=2))
    several, none = refused.value.problems
    assert several.startswith("`--workers 2` with `--gpus`: each worker gets all GPUs of this machine")
    assert none.startswith("`--gpus`: `nvidia-smi -L` lists no GPU")
    monkeypatch.setattr(docker, "_gpus", lambda: 4)
    assert docker._check(Options(gpus=True)) == 4
    settings = docker._settings(folder, Options(gpus=True), cpus=8)
    docker._write(folder / "compose.env", settings)
    docker._write_nodes(folder, settings)
    assert json.loads((folder / "nodes" / env.RAYSWEEP_NODES).read_text()) == [{"count": 1, "CPU": 8, "GPU": 4}]
    with pytest.raises(BadInput, match="`--workers 2` with `--gpus`"):
        docker.Docker().scale(cluster_of(folder), 2)


def test_a_cluster_that_does_not_answer_is_revived_and_nothing_of_it_removed(project, monkeypatch):
    folder = project / ".raysweep"
    docker._write(folder / "compose.env", docker._settings(folder, Options(), cpus=2))
    calls = []
    monkeypatch.setattr(docker, "_compose", lambda cluster, *arguments: calls.append(arguments) or "")
    monkeypatch.setattr(docker.s3_keys, "create_bucket", lambda endpoint, credentials: None)
    lifecycle._write(folder / "cluster.json", cluster_of(folder))
    monkeypatch.setattr(targets, "answers", lambda cluster: False)
    cluster, was_up = lifecycle.up(project, "docker")
    assert (cluster, was_up) == (cluster_of(folder), False)
    assert [arguments[0] for arguments in calls] == ["up"]
    assert "--no-recreate" in calls[0]


def test_a_cluster_that_cannot_be_revived_stays_and_the_fix_is_named(project, monkeypatch):
    folder = project / ".raysweep"
    docker._write(folder / "compose.env", docker._settings(folder, Options(), cpus=2))

    def fails(cluster, *arguments):
        raise ClusterError("`docker compose up` failed: container head is unhealthy")

    monkeypatch.setattr(docker, "_up", fails)
    monkeypatch.setattr(targets, "answers", lambda cluster: False)
    monkeypatch.setattr(docker.Docker, "stop", lambda *_: pytest.fail("it was removed"))
    lifecycle._write(folder / "cluster.json", cluster_of(folder))
    with pytest.raises(
        ClusterError, match=r"head is unhealthy\nsweeps may run on it, so it is not removed; `raysweep cluster down`"
    ):
        lifecycle.up(project, "docker")
    assert lifecycle.read(project) == cluster_of(folder)


def test_the_parts_of_a_cluster_are_counted(project, monkeypatch):
    folder = project / ".raysweep"
    docker._write(folder / "compose.env", docker._settings(folder, Options(workers=3), cpus=3))
    containers = [("head", "healthy"), ("worker", "healthy"), ("worker", "starting"), ("store", "healthy")]
    containers.append(("resubmitter", "healthy"))
    rows = "".join(json.dumps({"Service": name, "Health": health}) + "\n" for name, health in containers)
    monkeypatch.setattr(docker, "_compose", lambda cluster, *arguments: rows)
    parts = docker.Docker().parts(cluster_of(folder))
    assert [part.split() for part in parts] == [
        ["head", "1", "of", "1", "healthy"],
        ["worker", "1", "of", "3", "healthy"],
        ["store", "1", "of", "1", "healthy"],
        ["resubmitter", "1", "of", "1", "healthy"],
    ]


def test_a_worker_that_is_not_healthy_is_named_with_the_setting(project, monkeypatch):
    folder = project / ".raysweep"
    docker._write(folder / "compose.env", docker._settings(folder, Options(workers=2), cpus=2))
    workers = [("raysweep-worker-1", "healthy"), ("raysweep-worker-2", "unhealthy")]
    rows = "".join(json.dumps({"Service": "worker", "Name": n, "Health": health}) + "\n" for n, health in workers)
    monkeypatch.setattr(docker, "_compose", lambda cluster, *arguments: rows)
    _, counted, *_, told = docker.Docker().parts(cluster_of(folder))
    assert counted.split() == ["worker", "1", "of", "2", "healthy"]
    assert told.startswith("raysweep-worker-2 is unhealthy: ")
    assert "`docker restart raysweep-worker-2`" in told
    assert "RAYSWEEP_TMP=8g" in told


def test_settings_share_the_cpus_and_keep_the_volume(project):
    folder = project / ".raysweep"
    first = docker._settings(folder, Options(), cpus=8)
    assert (first["RAYSWEEP_WORKERS"], first["RAYSWEEP_WORKER_CPUS"], first["RAYSWEEP_HEAD_CPUS"]) == ("2", "4", "2")
    docker._write(folder / "compose.env", first)
    again = docker._settings(folder, Options(workers=3, gpus=True, memory="16g"), cpus=2)
    assert again["COMPOSE_PROJECT_NAME"] == first["COMPOSE_PROJECT_NAME"]
    assert (again["RAYSWEEP_WORKERS"], again["RAYSWEEP_WORKER_CPUS"]) == ("3", "1")
    assert again["RAYSWEEP_WORKER_MEMORY"] == "16g"
    assert again["COMPOSE_FILE"] == f"{DOCKER}/compose.yaml:{DOCKER}/compose.gpu.yaml"
    assert docker._settings(folder, Options(gpus=True), cpus=8)["RAYSWEEP_WORKERS"] == "1"


def test_containers_never_run_as_root(monkeypatch):
    for uid, user in ((0, (10001, 10001)), (1234, (1234, 1234))):
        monkeypatch.setattr(docker.os, "getuid", lambda uid=uid: uid)
        monkeypatch.setattr(docker.os, "getgid", lambda uid=uid: uid)
        assert docker._user() == user


def test_secrets_are_for_the_containers_user_and_made_once(tmp_path):
    docker._write_secrets(tmp_path, "first")
    keys = {name: (tmp_path / name).read_text() for name in (s3_keys.IDENTITIES, s3_keys.CREDENTIALS)}
    docker._write_secrets(tmp_path, "second")
    assert (tmp_path / "token").read_text() == "second"
    assert {name: (tmp_path / name).read_text() for name in keys} == keys
    for name in ("token", *keys):
        status = (tmp_path / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o400, docker._user()[0])


def test_keys_are_fresh_and_good_for_one_bucket():
    first, second = s3_keys.new_keys(), s3_keys.new_keys()
    identity = json.loads(first[s3_keys.IDENTITIES])["identities"][0]
    assert all(action.endswith(f":{s3_keys.BUCKET}") for action in identity["actions"])
    secret = identity["credentials"][0]["secretKey"]
    assert secret in first[s3_keys.CREDENTIALS]
    assert secret not in second[s3_keys.CREDENTIALS]


@pytest.mark.parametrize(("to", "ours"), [("s3://raysweep/mine", True), ("elsewhere", False), (None, True)])
def test_upload_reaches_the_clusters_store_as_every_command_does(tmp_path, monkeypatch, to, ours):
    record(tmp_path, "http://127.0.0.1:8333")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file").write_text("x")
    monkeypatch.chdir(tmp_path)
    for name in s3_keys.environment("", Path()):
        monkeypatch.setenv(name, "mine")
    taken = []
    monkeypatch.setattr(
        dataset, "upload", lambda folder, where: taken.append((where, os.environ["AWS_ENDPOINT_URL"])) or []
    )
    done = CliRunner().invoke(cli, ["upload", "set", *(["--to", to] if to else [])])
    assert done.exit_code == 0, done.output
    assert taken == [(to or "s3://raysweep/data/set", "http://127.0.0.1:8333" if ours else "mine")]


def record(project: Path, endpoint: str) -> None:
    cluster = Cluster(
        "docker", "x", "http://127.0.0.1:8265", "", s3_keys.STORAGE, "token", endpoint=endpoint, credentials_path="keys"
    )
    lifecycle._write(lifecycle._folder(project) / "cluster.json", cluster)


@pytest.mark.parametrize(
    ("requested", "ours"), [(None, True), ("s3://raysweep/deeper", True), ("s3://raysweeper", False), ("runs", False)]
)
def test_commands_reach_the_clusters_own_store_and_no_other_with_its_keys(tmp_path, monkeypatch, requested, ours):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    record(tmp_path, "http://127.0.0.1:8333")
    # Set here, so that monkeypatch takes back what `storage` sets.
    for name in s3_keys.environment("", Path()):
        monkeypatch.setenv(name, "mine")
    assert connection.storage(tmp_path, requested) == (requested or s3_keys.STORAGE)
    assert (os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:8333") is ours
    assert ("AWS_ACCESS_KEY_ID" not in os.environ) is ours


def test_compose_closes_and_limits_every_container():
    services = composed("compose.yaml")["services"]
    assert set(services) == {"head", "worker", "store", "resubmitter"}
    for service in services.values():
        assert service["read_only"] is service["init"] is True
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ()))
        assert "RAY_AUTH_TOKEN" not in service.get("environment", {})
    assert services["worker"]["depends_on"]["head"]["condition"] == "service_healthy"
    assert [port["target"] for port in services["head"]["ports"]] == [8265]
    assert "--num-cpus=0" in services["head"]["command"]


def test_the_resubmitter_reads_the_tickets_of_jobs_and_each_new_cluster_has_its_own(project):
    settings = docker._settings(project / ".raysweep", Options(), cpus=2)
    services = composed("compose.yaml", RAYSWEEP_JOBS=settings[env.RAYSWEEP_JOBS])["services"]
    assert (
        services["resubmitter"]["command"][-1]
        == services["head"]["environment"][env.RAYSWEEP_JOBS]
        == settings[env.RAYSWEEP_JOBS]
    )
    assert docker._settings(project / ".raysweep", Options(), cpus=2)[env.RAYSWEEP_JOBS] != settings[env.RAYSWEEP_JOBS]


def test_compose_gives_gpus_to_workers_only():
    services = composed("compose.yaml", "compose.gpu.yaml")["services"]
    (device,) = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", -1, ["gpu"])
    assert services["worker"]["environment"]["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert services["head"]["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_settings_are_those_that_compose_needs():
    needed = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    given = set(docker._settings(ROOT / "docker", Options(), cpus=2))
    assert given ^ needed == {"COMPOSE_PROJECT_NAME", "COMPOSE_FILE"}


def test_the_base_is_pinned_in_one_place_and_has_the_cuda_of_the_lock():
    text = (DOCKER / "Dockerfile").read_text()
    (base,) = re.findall(r"nvidia/cuda:([\d.]+)-base-\w+[\d.]+@sha256:[0-9a-f]{64}", text)
    assert base.split(".")[:2] == LOCK["cuda-toolkit"]["version"].split(".")[:2]


def test_uv_is_pinned_to_the_lock():
    requirement = runpy.run_path(str(DOCKER / "pinned.py"))["requirement"](ROOT / "uv.lock", "uv")
    assert requirement.startswith(f"uv=={LOCK['uv']['version']} --hash=sha256:")
    assert requirement.count("--hash=") == len(LOCK["uv"]["wheels"])


def test_the_smoke_test_imports_every_dependency():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=~]", line)[0].lower().replace("-", "_") for line in declared}
    imported = {name.split(".")[0].lower() for name in runpy.run_path(str(DOCKER / "smoke.py"))["MODULES"]}
    called = {"pillow": "pil", "pyyaml": "yaml", "scikit_learn": "sklearn"}
    assert {called.get(name, name) for name in names} == imported


def test_docker_is_a_target_like_the_others():
    loaded = targets.load("docker")
    assert all(callable(getattr(loaded, verb)) for verb in ("start", "stop", "healthy", "scale", "logs"))
