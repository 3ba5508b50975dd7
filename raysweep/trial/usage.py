"""How much memory a trial's process has needed, and how much its node has; `raysweep check` asks for it.

The peak is the kernel's own (https://man7.org/linux/man-pages/man2/getrusage.2.html). What processes of a node share,
such as the data in Ray's object store and the code of libraries, counts once for all of them.
"""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass

from raysweep.ray_private import memory_of_this_machine

KIB = 1024  # Linux has the peak in it


@dataclass(frozen=True)
class Usage:
    """Of one process; all memory in bytes.

    Attributes:
        pid: its number on its node.
        host: the name of the node.
        peak: its memory at most so far, with what it shares; with that of its children.
        shared: what it shares with other processes of the node, now.
        gpu: that it has reserved on GPUs at most, by torch's count: without CUDA's own context.
        host_memory: that all processes of the node may have.
        gpu_memory: of its GPU; of several the smallest.
    """

    pid: int
    host: str
    peak: int
    shared: int
    gpu: int
    host_memory: int
    gpu_memory: int

    @property
    def own(self) -> int:
        """The peak without what is shared."""
        return max(self.peak - self.shared, 0)


def measure() -> Usage:
    """That of this process."""
    import psutil

    own = psutil.Process()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB  # of the largest child
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    gpu, gpu_memory = _of_gpus()
    return Usage(
        pid=os.getpid(),
        host=os.uname().nodename,
        peak=peak + max(ended, sum(_resident(child) for child in own.children(recursive=True))),
        shared=own.memory_info().shared,
        gpu=gpu,
        host_memory=memory_of_this_machine(),
        gpu_memory=gpu_memory,
    )


def _resident(child: object) -> int:
    import psutil

    assert isinstance(child, psutil.Process)
    try:
        return int(child.memory_info().rss)
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return 0


def _of_gpus() -> tuple[int, int]:
    """What torch has reserved at most, and what there is; nothing if this process uses no GPU by torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return 0, 0
    devices = range(torch.cuda.device_count())
    most = max(torch.cuda.max_memory_reserved(device) for device in devices)
    return int(most), min(int(torch.cuda.mem_get_info(device)[1]) for device in devices)
