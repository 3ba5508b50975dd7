"""The wheel in an empty folder: what it has, a sweep here, and on a cluster of this machine."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from raysweep.history.results import read
from tests.ray_project import ROOT, Project, clean_environment, free_ports
from tests.waiting import PATIENCE_S

# In a distribution that no image has.
TINY = {
    "tiny.py": "ANSWER = 42.0\n",
    "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny-1.0.dist-info/RECORD": "",
}
NEEDS_TINY = """
import raysweep
import tiny
from ray import tune

SPACE = {"x": tune.uniform(0.0, 1.0)}
METRIC, MODE, MAX_ITERATIONS = "value", "min", 1


def train(config):
    import joblib  # of the machine's own packages

    raysweep.report({"value": tiny.ANSWER})
"""
OWN_STRATEGY = (ROOT / "jobs" / "random_search.py").read_text()


@dataclass
class Installed(Project):
    """A user's folder, and an environment with the wheel, without this repository."""

    python_path: str = ""

    def command(self, *arguments: str) -> list[str]:
        return [self.python_path, "-m", "raysweep", *arguments]

    def python(self, *arguments: str, seconds: float = 240.0, **env: str) -> subprocess.CompletedProcess[str]:
        """In a folder inside of the project, as a user may stand."""
        return subprocess.run(
            [self.python_path, *arguments],
            cwd=self.folder / "notes", env=self.env | env, text=True, timeout=seconds,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository."""
    out = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run(
        [uv, "build", "--quiet", "--wheel", "--out-dir", out, ROOT], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in a new environment, with the dependencies of this one; a folder with nothing but `raysweep init`."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("mine")
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True, timeout=PATIENCE_S)
    packages = home / "venv" / "lib" / Path(sysconfig.get_path("purelib")).parent.name / "site-packages"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(packages)
    # A folder that a .pth file names is searched; its own .pth files, as of this repository, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (folder / "notes").mkdir()
    env = {name: value for name, value in clean_environment(home).items() if name != "PYTHONPATH"}
    project = Installed(folder, env, free_ports(2), str(home / "venv" / "bin" / "python"))
    began = subprocess.run(project.command("init"), cwd=folder, env=project.env, capture_output=True, text=True)
    assert began.returncode == 0, began.stderr
    return project


def test_it_has_one_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert {name.split("/")[0] for name in names} == {"raysweep", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}
    inside = {name.removeprefix("raysweep/") for name in names if name.startswith("raysweep/")}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "raysweep", "jobs", "tasks", "docker", "k8s"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    more = {"cluster.yaml", "pyproject.toml", "uv.lock"}
    assert inside == {name.removeprefix("raysweep/") for name in tracked if (ROOT / name).exists()} | more
    named_so = inside - {"clusters/kubernetes/job_secret.py"}  # a module about them
    assert not [
        name for name in named_so if "test" in name or "token" in name or "secret" in name.replace("_secrets", "")
    ]


def test_it_is_what_runs(installed: Installed) -> None:
    code = "import raysweep, importlib.util as u; print(raysweep.__file__, u.find_spec('jobs'), u.find_spec('tasks'))"
    done = installed.python("-c", code)
    assert done.stdout.split() == [
        f"{Path(installed.python_path).parents[1]}/lib/{lib()}/raysweep/__init__.py",
        "None",
        "None",
    ]


def lib() -> str:
    return f"{Path(sysconfig.get_path('purelib')).parent.name}/site-packages"


def test_its_files_for_clusters_are_whole(installed: Installed) -> None:
    """Compose finds the package that it mounts, kustomize all that an overlay names, and a build its files."""
    code = "from raysweep import kit; print(kit.HOME); print(kit.PACKAGE)"
    home, package = map(Path, installed.python("-c", code).stdout.split())
    assert home == package
    compose = [Path(sys.executable).with_name("docker-compose"), "--file", home / "docker" / "compose.yaml", "config"]
    env = installed.env | {"RAYSWEEP_PACKAGE": str(package)}
    composed = subprocess.run(compose, env=env, capture_output=True, text=True)
    assert composed.returncode == 0, composed.stderr
    assert f"source: {package}\n" in composed.stdout
    code = """
from pathlib import Path
from raysweep import kit
from raysweep.clusters.kubernetes import manifests
none, job = manifests.Additions(), manifests.Additions(components=("rayjob",))
manifests.write(Path("own"), kit.overlay(Path.cwd(), "kind"), none)
manifests.write(Path("job"), Path("own"), job, kit.HOME / "k8s" / "components")
print([(each["kind"], each["metadata"]["name"]) for each in manifests.render(Path("job"))])
"""
    rendered = installed.python("-c", code).stdout
    assert "('RayJob', 'sweep')" in rendered, rendered
    ignored = (home / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert all((home / line[1:]).is_file() for line in ignored if line.startswith("!"))


def test_a_sweep_runs_here_without_a_cluster(installed: Installed) -> None:
    done = installed.run("run", "asha", "--task", "train", "--samples", "3", "--name", "here")
    assert done.returncode == 0, done.stdout
    assert read("here", str(installed.folder / "runs")).best["loss"] < 1
    assert not (installed.folder / ".raysweep").exists()
    dry = installed.python("-m", "raysweep.jobs.tpe", "--task", "digits", "--dry-run")
    assert "dry run: tpe on digits" in dry.stdout
    listed = installed.run("list").stdout
    assert "  train          yours  What is tuned" in listed
    assert "mnist" in listed


@pytest.fixture(scope="module")
def jobs(installed: Installed) -> Iterator[dict[str, subprocess.CompletedProcess[str]]]:
    """Two jobs at once: the kit's strategy, with requirements, and one of the user's on a package of the user's."""
    folder = installed.folder
    for place in (".git", ".venv", "mypkg", "jobs"):
        (folder / place).mkdir()
    (folder / "mypkg" / "train.py").write_text((folder / "train.py").read_text())
    (folder / "needs_tiny.py").write_text(NEEDS_TINY)
    (folder / "jobs" / "own.py").write_text(OWN_STRATEGY)
    with zipfile.ZipFile(folder / "notes" / "tiny-1.0-py3-none-any.whl", "w") as file:
        for name, text in TINY.items():
            file.writestr(name, text)
    (folder / "notes" / "requirements.txt").write_text(f"tiny @ file://{folder}/notes/tiny-1.0-py3-none-any.whl\n")
    flags = {
        "kits": ("asha", "--task", "needs_tiny", "--samples", "1", "--requirements", "requirements.txt"),
        "own": ("own", "--task", "mypkg.train", "--samples", "1"),
    }
    with installed.running("--num-cpus", "2"), ThreadPoolExecutor() as pool:
        ended = {
            name: pool.submit(installed.run, "submit", *asked, "--name", name, seconds=280.0)
            for name, asked in flags.items()
        }
        yield {name: each.result() for name, each in ended.items()}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["kits", "own"])
def test_a_job_has_what_it_needs_of_the_kit(
    name: str, jobs: dict[str, subprocess.CompletedProcess[str]], installed: Installed
) -> None:
    done = jobs[name]
    assert done.returncode == 0, done.stdout
    assert read(name, str(installed.folder / "runs")).best
    assert "ignored by default" not in done.stdout  # Ray's warnings of .git and .venv
    program = "python jobs/own.py" if name == "own" else "python -m raysweep.jobs.asha"
    assert program in done.stdout


def test_what_it_asks_of_the_nodes_is_said(jobs: dict[str, subprocess.CompletedProcess[str]]) -> None:
    said = jobs["kits"].stdout
    assert "requirements: each node installs 1 of them before its first trial of this job\n  in a copy of " in said
