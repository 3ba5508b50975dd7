"""What a checkpoint of a gigabyte costs: a folder of 64 files, by raysweep and by plain Ray Tune, to a real S3 server.

One file has half of all bytes, one has 4 KiB. A trial reports the folder, changes the small file, and reports it again.
The arms take turns on one SeaweedFS of this machine, each in a process with a Ray of its own; `refused` means through a
proxy that answers 503 to every 7th part; it does not know the encoding in which pyarrow sends bodies, so plain Ray Tune
cannot go through it. `state` reports the bytes as one pickled object. Printed for each arm: MB/s of
each report, the memory of the trial's process beside what it had before, that of the driver, and whether what the store
has afterwards is what was reported.

    python benchmarks/folder_checkpoint.py --turns 3
    python benchmarks/folder_checkpoint.py --arm state --before /tmp/before    (a checkout of an earlier raysweep)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests import s3  # noqa: E402 (the store of the tests)
from tests.s3 import S3Server  # noqa: E402

FILES = 64
SMALL = "trainer_state.json"
REFUSED_EVERY = 7
KINDS = ("raysweep", "Ray Tune", "raysweep, refused", "state")


def memory(which: str) -> float:
    """MiB of this process: VmRSS now, or VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def reset_peak() -> float:
    """From now on VmHWM is counted anew; returns the memory of now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def make_folder(folder: Path, size: int) -> None:
    """The files of a checkpoint: random, so that nothing can be compressed."""
    (folder / "shards").mkdir(parents=True)
    (folder / SMALL).write_bytes(os.urandom(4096))
    rest = size // 2 // (FILES - 2)
    for name, length in [("model.safetensors", size // 2), *((f"shards/{n:02d}.bin", rest) for n in range(FILES - 2))]:
        with (folder / name).open("wb") as file:
            for left in range(length, 0, -(2**24)):
                file.write(os.urandom(min(left, 2**24)))


def hashes(folder: Path) -> dict[str, str]:
    """The hash of each file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def measured(folder: Path, times: int, report: Callable[[dict[str, Any]], None]) -> None:
    """The trial of every arm: reports the folder so many times, and hands over what the report before has cost."""
    took: list[tuple[float, float]] = []
    for _ in range(times):
        (folder / SMALL).write_bytes(os.urandom(4096))
        before, began = reset_peak(), time.perf_counter()
        report({"loss": 1.0, **{f"cost{n}": json.dumps(cost) for n, cost in enumerate(took)}})
        took.append((time.perf_counter() - began, memory("VmHWM") - before))
    report({"loss": 1.0, **{f"cost{n}": json.dumps(cost) for n, cost in enumerate(took)}, "last": 1})


def raysweep_arm(folder: Path, url: str, times: int, as_state: bool = False) -> dict[str, Any]:
    """A sweep of one trial."""
    from ray import tune

    import raysweep
    from raysweep.driver import local_ray

    def train(config: dict[str, Any]) -> None:
        def report(metrics: dict[str, Any]) -> None:
            if "last" in metrics:
                raysweep.report(metrics)
            elif as_state:
                raysweep.report(metrics, state=held)
            else:
                raysweep.report(metrics, checkpoint=folder)

        held = [bytearray(path.read_bytes()) for path in folder.rglob("*") if path.is_file()] if as_state else None
        measured(folder, times, report)

    local_ray.start()
    space = {"x": tune.uniform(0.0, 1.0)}
    before = reset_peak()
    found = raysweep.run(
        "random_search", train, space, metric="loss", mode="min", samples=1, max_iterations=times + 1, storage=url
    )
    driver = memory("VmHWM") - before
    (record,) = found.state.trials.values()
    (last,) = [each for each in record.results.values() if "last" in each.metrics]
    costs = [json.loads(last.metrics[f"cost{n}"]) for n in range(times)]
    with tempfile.TemporaryDirectory(dir=folder.parent) as own:
        began = time.perf_counter()
        loaded = found.load(record.checkpoint.key, **({} if as_state else {"folder": Path(own, "back")}))
        restored = time.perf_counter() - began
        intact = len(loaded) == FILES if as_state else hashes(Path(own, "back")) == hashes(folder)
    return {"costs": costs, "driver": driver, "intact": intact, "restored": restored}


def tune_arm(folder: Path, url: str, times: int) -> dict[str, Any]:
    """Ray Tune with one trial, its storage through pyarrow."""
    import ray
    from pyarrow import fs
    from ray import tune

    store = fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"], secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"), scheme="http", region="us-east-1",
        request_timeout=60, connect_timeout=10,  # its own 3 s are short for a machine that is busy
    )  # fmt: skip

    def train(config: dict[str, Any]) -> None:
        def report(metrics: dict[str, Any]) -> None:
            tune.report(metrics, checkpoint=None if "last" in metrics else tune.Checkpoint.from_directory(str(folder)))

        measured(folder, times, report)

    ray.init(include_dashboard=False, log_to_driver=False)
    before = reset_peak()
    result = tune.Tuner(
        train, run_config=tune.RunConfig(storage_path=url.removeprefix("s3://"), storage_filesystem=store, verbose=0)
    ).fit()[0]
    driver = memory("VmHWM") - before
    costs = [json.loads(result.metrics[f"cost{n}"]) for n in range(times)]
    began = time.perf_counter()
    with result.checkpoint.as_directory() as back:
        restored = time.perf_counter() - began
        found = hashes(Path(back))
        intact = found == hashes(folder)
    return {"costs": costs, "driver": driver, "intact": intact, "restored": restored}


def serve(arm: str, folder: Path, url: str, times: int) -> None:
    """Runs one arm, and prints what it took as the last line."""
    run = tune_arm if arm.startswith("Ray Tune") else raysweep_arm
    print(json.dumps(run(folder, url, times, *([True] if arm == "state" else []))))


def turn(arm: str, package: Path, folder: Path, url: str, times: int, env: dict[str, str]) -> dict[str, Any]:
    """One turn of an arm, in a process of its own."""
    with tempfile.TemporaryDirectory() as home:
        path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(Path(__file__).absolute()), "--serve", arm, "--folder", str(folder),
             "--url", url, "--times", str(times)],
            env=os.environ | env | {"PYTHONPATH": path, "HOME": home, "RAY_AIR_NEW_OUTPUT": "0"},
            cwd=package, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it ended"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def show(arm: str, turns: list[dict[str, Any]], base: list[dict[str, Any]], megabytes: float) -> None:
    """Prints what the turns of an arm took, and the ratio of its time to that of another arm, turn by turn."""
    click.echo(f"\n{arm}")
    for failed in [each["error"] for each in turns if "error" in each]:
        click.echo(f"  failed: {failed}")
    pairs = [pair for pair in zip(turns, base, strict=True) if not any("error" in each for each in pair)]
    good = [each for each in turns if "error" not in each]
    for n in range(max((len(each["costs"]) for each in good), default=0)):
        seconds, memory = zip(*(each["costs"][n] for each in good), strict=True)
        ratios = [one["costs"][n][0] / other["costs"][n][0] for one, other in pairs]
        click.echo(f"  report {n + 1}: {spread([megabytes / each for each in seconds])} MB/s, {spread(seconds)} s")
        click.echo(f"            ratio of the times to raysweep's: {spread(ratios, 2)}")
        click.echo(f"            {spread(memory)} MiB more in the trial's process")
    if good:
        click.echo(f"  loaded:   {spread([each['restored'] for each in good])} s")
        click.echo(f"  driver:   {spread([each['driver'] for each in good])} MiB more")
        click.echo(f"  intact:   {sum(each['intact'] for each in good)} of {len(turns)}")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, and the least and the most."""
    least, middle, most = (f"{each:.{digits}f}" for each in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({least} to {most})"


@contextlib.contextmanager
def stores() -> Iterator[dict[bool, S3Server]]:
    """A new server, and the same through the proxy that refuses."""
    with s3.running_s3_server() as server, s3.running_s3_proxy(server) as proxy:
        proxy.refuse("UploadPart", every=REFUSED_EVERY, status=503)
        yield {False: server, True: proxy}


@click.command()
@click.option("--turns", default=3, show_default=True, help="How often each arm is run.")
@click.option("--arm", "arms", multiple=True, type=click.Choice(KINDS), default=KINDS[:3], help="Those to run.")
@click.option("--size", default=1000, show_default=True, help="Of the folder, in millions of bytes.")
@click.option("--before", type=click.Path(path_type=Path, exists=True), default=ROOT, help="Checkout to run.")
@click.option("--serve", "served", hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
@click.option("--url", hidden=True)
@click.option("--times", hidden=True, type=int)
def main(
    turns: int, arms: tuple[str, ...], size: int, before: Path, served: str, folder: Path, url: str, times: int
) -> None:
    """Print what a checkpoint that is a folder costs each arm."""
    if served:
        serve(served, folder, url, times)
        return
    took: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory(prefix="folder-checkpoint-") as own:
        make_folder(Path(own, "folder"), size * 10**6)
        for n in range(turns):
            with stores() as found:
                for arm in arms[n % len(arms) :] + arms[: n % len(arms)]:  # the first one meets a cold store
                    server, times = found["refused" in arm], 1 if "refused" in arm else 2
                    place = f"{server.new_bucket()}/runs"
                    took[arm].append(turn(arm, before.absolute(), Path(own, "folder"), place, times, server.env))
                    click.echo(f"{arm}: {took[arm][-1]}", err=True)
    click.echo(f"load {os.getloadavg()[0]:.1f}")
    for arm in arms:
        show(arm, took[arm], took.get("raysweep", took[arm]), size)


if __name__ == "__main__":
    main()
