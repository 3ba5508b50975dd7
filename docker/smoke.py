"""Whether an image is what it should be; runs in it, with the image's own Python.

python smoke.py versions uv.lock    Python, Ray, torch and CUDA are what the lock says (part of the build)
python smoke.py run uv.lock         that, and: imports, user, tools, Ray, a Tune trial, training, Triton's
                                    compiler, the GPU if there is one

`make image-test` runs the second with a read-only root, no capabilities and a tmpfs for /tmp. One line a check;
exit code 1 if any failed.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tomllib
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# The names that the dependencies of pyproject.toml are imported by.
# fmt: off
MODULES = (
    "boto3", "click", "cmaes", "cryptography.fernet", "jinja2", "joblib", "kubernetes", "numpy", "optuna",
    "packaging.requirements", "pandas", "PIL", "plotly", "psutil", "pyarrow", "pydantic", "ray.tune",
    "ray.dashboard.dashboard", "rich", "sklearn", "scipy", "statsmodels.stats.power", "tenacity",
    "tensorboard.summary.writer.record_writer", "torch", "torchvision", "yaml",
)
# fmt: on
NEEDED = ("bash", "wget", "ray", "python")
UNWANTED = ("gcc", "cc", "g++", "make", "sudo", "ssh", "sshd", "uv", "pip")


def locked(lock: Path, name: str) -> str:
    """The version of a package in uv.lock."""
    packages = tomllib.loads(lock.read_text())["package"]
    return next(str(package["version"]) for package in packages if package["name"] == name)


def check_python(lock: Path) -> str:
    """The interpreter is one that the lock was made for, and none of a virtual environment, which Ray would copy."""
    wanted = tomllib.loads(lock.read_text())["requires-python"].removeprefix(">=")
    assert sys.version_info[:2] >= tuple(map(int, wanted.split("."))), f"the lock is for Python {wanted} and later"
    assert sys.prefix == sys.base_prefix, f"{sys.prefix} is a virtual environment"
    return sys.version.split()[0]


def check_packages(lock: Path) -> str:
    """Ray, torch and torchvision have the versions of the lock."""
    found = {name: version(name).partition("+")[0] for name in ("ray", "torch", "torchvision")}
    assert found == {name: locked(lock, name) for name in found}, found
    return ", ".join(f"{name} {number}" for name, number in found.items())


def check_cuda(lock: Path) -> str:
    """Torch is built for the CUDA of the lock, and the base image, if it has CUDA, has the same."""
    import torch

    wanted = release(locked(lock, "cuda-toolkit"))
    assert torch.version.cuda is not None, "torch is built without CUDA"
    assert release(torch.version.cuda) == wanted, f"torch has CUDA {torch.version.cuda}, the lock {wanted}"
    base = os.environ.get("CUDA_VERSION")  # set by nvidia/cuda
    assert base is None or release(base) == wanted, f"BASE_IMAGE has CUDA {base}, torch {wanted}"
    return f"torch {torch.version.cuda}, base {base or 'without CUDA'}"


def release(number: str) -> str:
    """`13.2.1` -> `13.2`: minor versions of CUDA have libraries and drivers of their own."""
    return ".".join(number.split(".")[:2])


def check_imports(lock: Path) -> str:
    """Every direct dependency can be imported."""
    for name in MODULES:
        importlib.import_module(name)
    return f"{len(MODULES)} modules"


def check_user(lock: Path) -> str:
    """Not root, and nothing can be written outside of /tmp."""
    assert os.getuid() != 0, "runs as root"
    writable = [place for place in ("/", "/opt/venv", "/home", "/usr/local/bin") if os.access(place, os.W_OK)]
    assert not writable, f"may write to {writable}"
    return f"uid {os.getuid()}"


def check_tools(lock: Path) -> str:
    """What probes and KubeRay call is there; what an intruder would like is not."""
    assert not (missing := [name for name in NEEDED if not shutil.which(name)]), f"missing: {missing}"
    assert not (found := [name for name in UNWANTED if shutil.which(name)]), f"should not be there: {found}"
    return f"with {', '.join(NEEDED)}; without {', '.join(UNWANTED)}"


def check_bytecode(lock: Path) -> str:
    """Modules are compiled already: a read-only image could not keep what it compiles."""
    import ray

    assert Path(importlib.util.cache_from_source(ray.__file__)).exists()
    return "compiled"


def check_ray(lock: Path) -> str:
    """A Ray of its own starts and runs a task."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    assert ray.get(ray.remote(lambda: 6 * 7).remote()) == 42
    return "6 * 7 = 42 in a task"


def check_tune(lock: Path) -> str:
    """A Tune trial with an Optuna search reports a result."""
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    def train(config: dict[str, float]) -> None:
        tune.report({"loss": config["x"] ** 2})

    tuner = tune.Tuner(
        train,
        param_space={"x": tune.uniform(1, 2)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", search_alg=OptunaSearch(), num_samples=1),
        run_config=tune.RunConfig(storage_path="/tmp/smoke", verbose=0),
    )
    loss = tuner.fit().get_best_result().metrics["loss"]
    assert 1 <= loss <= 4
    return f"loss {loss:.2f}"


def check_training(lock: Path) -> str:
    """Convolution, recurrence, normalisation, a decomposition and an optimizer learn, on the GPU where there is one."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels = torch.randn(64, 1, 8, 8, device=device), torch.arange(64, device=device) % 2
    convolution = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(2)).to(device)
    recurrent, head = nn.LSTM(64, 16, batch_first=True).to(device), nn.Linear(16, 2).to(device)
    parameters = [weight for part in (convolution, recurrent, head) for weight in part.parameters()]
    optimizer, losses = torch.optim.Adam(parameters, lr=0.01), []
    for _ in range(30):
        loss = nn.functional.cross_entropy(head(recurrent(convolution(images))[0][:, -1]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2, losses
    matrix = torch.randn(16, 16, device=device)
    assert torch.allclose(matrix @ torch.linalg.inv(matrix), torch.eye(16, device=device), atol=1e-2)
    assert torch.fft.ifft(torch.fft.fft(matrix)).real.allclose(matrix, atol=1e-4)
    return f"loss {losses[0]:.2f} to {losses[-1]:.2f} on {device}"


def check_triton(lock: Path) -> str:
    """Triton's compiler makes code for NVIDIA's GPUs, before Blackwell and since, with the assembler of each."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    os.environ.setdefault("TRITON_CACHE_DIR", "/tmp/smoke-triton")
    sizes = {}
    for capability in (80, 100):
        source = ASTSource(fn=_doubled_kernel(), signature={"pointer": "*fp32"}, constexprs={})
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        sizes[capability] = len(compiled.asm["cubin"])
    assert all(sizes.values()), sizes
    return ", ".join(f"sm_{capability} {size} bytes" for capability, size in sizes.items())


def _doubled_kernel() -> Any:
    import triton
    from triton import language as tl

    def doubled(pointer):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 (Triton reads the annotations)
        places = pointer + tl.arange(0, 32)
        tl.store(places, tl.load(places) * 2)

    doubled.__globals__["tl"] = tl
    return triton.jit(doubled)


def check_gpu(lock: Path) -> str:
    """Where there is a GPU, torch computes on it."""
    import torch

    if not torch.cuda.is_available() and not Path("/dev/nvidiactl").exists():
        return "none here"
    assert torch.ones(1000, device="cuda").sum().item() == 1000
    return f"{torch.cuda.get_device_name()}, driver for CUDA {torch.version.cuda}"


VERSIONS = (check_python, check_packages, check_cuda)
ALL = (
    *VERSIONS,
    check_imports,
    check_user,
    check_tools,
    check_bytecode,
    check_ray,
    check_tune,
    check_training,
    check_triton,
    check_gpu,
)


def passes(check: Callable[[Path], str], lock: Path) -> bool:
    """Runs one check and prints a line."""
    try:
        print(f"ok      {check.__name__.removeprefix('check_'):9} {check(lock)}", flush=True)
        return True
    except Exception:
        print(f"FAILED  {check.__name__.removeprefix('check_')}\n{traceback.format_exc()}", flush=True)
        return False


if __name__ == "__main__":
    wanted = {"versions": VERSIONS, "run": ALL}[sys.argv[1]]
    passed = [passes(check, Path(sys.argv[2])) for check in wanted]
    sys.exit(not all(passed))
