"""How much memory a trial's process has needed, and how much its node has; `raysweep check` asks for it.

The peak is the kernel's own, `VmHWM` (https://man7.org/linux/man-pages/man5/proc_pid_status.5.html): that of getrusage
also has what a process was before it began its program. What processes of a node share, such as the data in Ray's
object store and the code of libraries, counts once for all of them.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from raysweep.ray_private import memory_of_this_machine

KIB = 1024  # the kernel's unit


@dataclass(frozen=True)
class Usage:
    """Of one process; all memory in bytes.

    Attributes:
        pid: its number on its node.
        host: the name of the node.
        peak: its memory at most so far, with what it shares; with that of the programs that it runs now.
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
    gpu, gpu_memory = _of_gpus()
    return Usage(
        pid=os.getpid(),
        host=os.uname().nodename,
        peak=sum(_peak(process.pid) for process in (own, *own.children(recursive=True))),
        shared=own.memory_info().shared,
        gpu=gpu,
        host_memory=memory_of_this_machine(),
        gpu_memory=gpu_memory,
    )


def _peak(pid: int) -> int:
    """Bytes that a process has had in memory at most; 0 if it has ended meanwhile."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(values.get("VmHWM", "0 kB").split()[0]) * KIB  # one that has just ended has none


def _of_gpus() -> tuple[int, int]:
    """What torch has reserved at most, and what there is; nothing if this process uses no GPU by torch."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return 0, 0
    devices = range(torch.cuda.device_count())
    most = max(torch.cuda.max_memory_reserved(device) for device in devices)
    return int(most), min(int(torch.cuda.mem_get_info(device)[1]) for device in devices)
