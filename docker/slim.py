"""What of the image's packages nothing can reach, and what takes it away; runs in the build and in `make image-test`.

python slim.py remove SITE_PACKAGES    deletes it, and prints the files for `strip`
python slim.py check SITE_PACKAGES     lists what of it is there; exit code 1 if there is any

Standard library only, since it runs with whatever Python the base has.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

# Patterns from site-packages on. One that finds nothing fails the build, so that no line stays which a new version of
# a package has made pointless.
# fmt: off
UNREACHABLE = {
    "for compilers and linkers, and the image has none": (
        "**/*.a", "torch/include", "torch/bin/protoc*", "nvidia/*/include", "nvidia/cu13/cccl", "pyarrow/include",
        "pyarrow/src", "triton/include", "triton/plugins",
    ),
    "libraries of CUDA that torch neither links nor opens": (
        "nvidia/cu13/lib/libcusolverMg.so.*", "nvidia/cu13/lib/libcufftw.so.*", "nvidia/cu13/lib/libnvblas.so.*",
        "nvidia/cu13/lib/libcheckpoint.so",
    ),
    "counters of a GPU's hardware, for profilers; torch.profiler's times come from libcupti, which stays": (
        "nvidia/cu13/lib/libnvperf_*.so", "nvidia/cu13/lib/libpcsamplingutil.so", "triton/backends/nvidia/lib/cupti*",
    ),
    "device code of NVSHMEM for kernels of one's own; torch looks for it under another name": (
        "nvidia/nvshmem/lib/*.bc",
    ),
    "Triton for GPUs of AMD": ("triton/backends/amd/lib", "triton/backends/amd/include"),
    "tests, and what only tests use": ("**/tests", "triton/FileCheck", "triton/instrumentation"),
    "Ray for Java": ("ray/jars",),
    "the sources of the dashboard's scripts, for a browser's debugger": ("ray/dashboard/client/build/static/js/*.map",),
    "for JupyterLab, which is not there": ("plotly/labextension",),
    "a second client of Kubernetes, for asyncio": ("kubernetes/aio",),
}
# Half of a gigabyte of symbols and debugging information, which no loader reads. These and no others: `strip` makes
# libraries that `patchelf` has worked on, numpy's for one, into such as cannot be loaded.
STRIPPED = (
    "triton/_C/*.so", "torch/lib/libtorch*.so", "nvidia/nccl/lib/libnccl.so.*", "ray/_raylet.so",
    "ray/core/src/ray/gcs/gcs_server", "ray/core/src/ray/raylet/raylet", "pyarrow/libarrow*.so.*",
    "tensorboard_data_server/bin/server",
)
# fmt: on


def matches(packages: Path, patterns: Iterable[str]) -> list[Path]:
    """The files and folders that patterns stand for.

    Raises:
        SystemExit: a pattern has found nothing.
    """
    there = {pattern: sorted(packages.glob(pattern)) for pattern in patterns}
    if pointless := [pattern for pattern, paths in there.items() if not paths]:
        sys.exit(f"{packages} has no {' and no '.join(pointless)}: take that out of slim.py")
    return [path for paths in there.values() for path in paths]


def remove(packages: Path) -> None:
    """Deletes what cannot be reached."""
    for path in matches(packages, chain.from_iterable(UNREACHABLE.values())):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # its folder may have gone before


def left(packages: Path) -> list[Path]:
    """What of it is there."""
    return [path for pattern in chain.from_iterable(UNREACHABLE.values()) for path in packages.glob(pattern)]


if __name__ == "__main__":
    action, packages = sys.argv[1], Path(sys.argv[2])
    if action == "remove":
        remove(packages)
        print(*(path for path in matches(packages, STRIPPED) if not path.is_symlink()), sep="\n")
    elif there := left(packages):
        sys.exit("\n".join(map(str, there)))
