"""The memory of a process, held against what it was made to use."""

from __future__ import annotations

import subprocess
import sys

import psutil

MIB = 2**20
CHILD = "import time; block = bytearray(200 * 2**20); print(1, flush=True); time.sleep(60)"


def measured(code: str) -> list[int]:
    """What a process of its own has: its own memory before the code; own, peak, shared, its node's and GPU after it."""
    program = (
        "import numpy, subprocess, sys\nfrom raysweep.trial.usage import measure\nbefore = measure()\n"
        f"{code}\nafter = measure()\n"
        "print(before.own, after.own, after.peak, after.shared, after.host_memory, after.gpu)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [int(each) for each in done.stdout.split()]


def test_the_peak_is_kept_after_the_memory_is_given_back() -> None:
    before, after, peak, shared, host, gpu = measured("block = numpy.ones(200 * 2**20, numpy.uint8)\ndel block")
    assert 190 * MIB < after - before < 230 * MIB
    assert peak - shared == after
    assert 0 < host <= psutil.virtual_memory().total
    assert gpu == 0


def test_a_program_that_the_trial_runs_counts() -> None:
    code = (
        f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nimport atexit; atexit.register(child.kill)"
    )
    before, after, *_ = measured(code)
    assert 190 * MIB < after - before < 250 * MIB


def test_what_it_has_run_does_not_count_twice() -> None:
    """A process that is about to begin its program is as large as the one that starts it, by getrusage."""
    before, after, *_ = measured("block = numpy.ones(200 * 2**20, numpy.uint8)\nsubprocess.run(['true'], check=True)")
    assert after - before < 230 * MIB
