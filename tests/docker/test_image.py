"""The images as `make image` has built them; what runs inside is checked by docker/smoke.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.docker.conftest import IMAGE, STORE_IMAGE, docker
from tests.ray_project import ROOT

pytestmark = pytest.mark.usefixtures("engine")

CLOSED = ("--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp")
MOST_BYTES = 7e9
REBUILD_SECONDS = 5.0


def inspected(image: str) -> dict:
    return json.loads(docker("image", "inspect", image))[0]


def make(target: str, folder: Path, **variables: str) -> str:
    """What `make` prints; the variables of a `make` that runs these tests are not for it."""
    env = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES")}
    done = subprocess.run(
        ["make", target], cwd=folder, env=env | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.timeout(600)
def test_smoke() -> None:
    assert len(re.findall("^ok ", make("image-test", ROOT), re.MULTILINE)) == 10


def test_size() -> None:
    assert inspected(IMAGE)["Size"] <= MOST_BYTES


@pytest.mark.parametrize("image", [IMAGE, STORE_IMAGE])
def test_is_not_root_says_what_it_is_and_looks_after_itself(image: str) -> None:
    config = inspected(image)["Config"]
    assert config["User"] == "10001:10001"
    assert docker("run", *CLOSED, "--entrypoint", "id", image, "-u") == "10001"
    assert {f"org.opencontainers.image.{key}" for key in ("title", "description", "licenses")} <= set(config["Labels"])
    assert config["Healthcheck"]["Test"][0] == "CMD"


def test_environment_is_what_kubernetes_and_nvidia_need() -> None:
    config = inspected(IMAGE)["Config"]
    environment = dict(line.split("=", 1) for line in config["Env"])
    assert environment["PATH"].startswith("/opt/venv/bin:")
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert not config["Entrypoint"]


def test_holds_none_of_the_projects_code() -> None:
    code = "import importlib.util as u; print([n for n in ('raysweep', 'jobs', 'tasks') if u.find_spec(n)])"
    assert docker("run", *CLOSED, IMAGE, "python", "-c", code) == "[]"


@pytest.mark.parametrize(
    ("package", "broken"), [("ray", "packages"), ("torch", "packages"), ("cuda-toolkit", "cuda"), ("python", "python")]
)
def test_the_build_fails_when_the_image_is_not_what_the_lock_says(package: str, broken: str, tmp_path: Path) -> None:
    text = (ROOT / "uv.lock").read_text()
    if package == "python":
        changed = text.replace('requires-python = ">=3.11"', 'requires-python = ">=3.99"')
    else:
        start = text.index(f'[[package]]\nname = "{package}"\nversion = ')
        end = text.index("\nsource", start)
        changed = f'{text[:start]}[[package]]\nname = "{package}"\nversion = "1.2.3"{text[end:]}'
    assert changed != text
    (tmp_path / "uv.lock").write_text(changed)
    tmp_path.chmod(0o755)
    mounts = (f"{ROOT}/docker/smoke.py:/smoke.py:ro", f"{tmp_path}/uv.lock:/uv.lock:ro")
    flags = [flag for mount in mounts for flag in ("--volume", mount)]
    done = docker("run", *CLOSED, *flags, IMAGE, "sh", "-c", "python /smoke.py versions /uv.lock || echo exit $?")
    assert f"FAILED  {broken}" in done
    assert "exit 1" in done


@pytest.mark.timeout(900)
def test_a_change_of_the_code_or_of_a_tools_settings_rebuilds_nothing(tmp_path: Path) -> None:
    """The same images, within seconds."""
    for name in ("Makefile", "docker", "jobs", "tasks", "raysweep", "pyproject.toml", "uv.lock", "README.md"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    tags = {"RAYSWEEP_IMAGE": "raysweep:rebuilt", "RAYSWEEP_STORE_IMAGE": "raysweep-store:rebuilt"}
    try:
        make("image", tmp_path, **tags)
        before = {tag: inspected(tag)["Id"] for tag in tags.values()}
        for name in ("raysweep/__init__.py", "pyproject.toml"):
            with (tmp_path / name).open("a") as file:
                file.write("\n# changed\n")
            began = time.monotonic()
            make("image", tmp_path, **tags)
            assert time.monotonic() - began < REBUILD_SECONDS
            assert {tag: inspected(tag)["Id"] for tag in tags.values()} == before
    finally:
        docker("image", "rm", *tags.values(), check=False)


def test_only_s3_of_the_store_can_be_reached() -> None:
    """Master, volume server and filer know no keys: they listen on loopback. (18333 is S3's gRPC, without data.)"""
    name = f"raysweep-store-test-{time.monotonic_ns()}"
    identities = '{"identities": []}'
    script = f"echo '{identities}' >/tmp/s3.json; exec weed -logtostderr=true server $WEED -s3.config=/tmp/s3.json"
    flags = inspected(STORE_IMAGE)["Config"]["Entrypoint"]
    assert "-ip.bind=127.0.0.1" in flags
    arguments = " ".join(flag for flag in flags[flags.index("server") + 1 :])
    docker("run", "--detach", "--name", name, *CLOSED, "--tmpfs", "/data:mode=1777", "--env", f"WEED={arguments}",
           "--entrypoint", "bash", STORE_IMAGE, "-c", script)  # fmt: skip
    try:
        limit = time.monotonic() + 60
        while docker("inspect", "--format", "{{.State.Health.Status}}", name) != "healthy":
            assert time.monotonic() < limit, docker("logs", name)
            time.sleep(0.5)
        table = docker("exec", name, "cat", "/proc/net/tcp", "/proc/net/tcp6")
    finally:
        docker("rm", "--force", "--volumes", name)
    listening = [row.split()[1].split(":") for row in table.splitlines() if " 0A " in row]
    assert {int(port, 16) for ip, port in listening if not ip.endswith("7F")} == {8333, 18333}
