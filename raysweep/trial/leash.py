"""Becomes a program that the system kills as soon as the thread that started this process is gone.

    python -m raysweep.trial.leash 4711 train.py --lr 0.1        4711: the process that must still be there

A trial's process may be killed at any moment, and what it has started would go on without it, on a GPU that is given to
others. Linux has a signal for that (PR_SET_PDEATHSIG, prctl(2)), which outlives `exec`; other systems do not.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Runs as a process of its own."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)  # as a shell has it


if __name__ == "__main__":
    main()
