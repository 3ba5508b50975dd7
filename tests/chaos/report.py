"""Makes docs/faults.md of what the cells wrote.

python -m tests.chaos.report benchmarks/FOLDER HARDWARE > docs/faults.md

FOLDER begins with the date, and has chaos.jsonl and chaos-plain.jsonl.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.chaos.cell import STRATEGIES

WHAT = {
    "trial-killed": "a trial's process is killed",
    "worker-killed": "one of a trial's two workers is killed",
    "trial-memory": "a trial runs out of memory (`MemoryError`)",
    "nan": "a metric becomes nan",
    "trial-hung": "a trial hangs in C, `--report-timeout 8`",
    "exception": "a trial raises, `--max-failures 1`",
    "exception-charged": "a trial raises, `--max-failures 0`",
    "odd-ends": "every trial returns early, raises, becomes nan or hangs, `--trial-timeout 8`",
    "odd-report": "a report has a value that cannot be stored, `--max-failures 1`",
    "save-refused": "a save fails, and the trial reports again",
    "slow-clean-up": "each trial cleans up for 6 s when it ends or is stopped",
    "metric-sparse": "only every second report has the metric; the driver is killed",
    "config-changed": "each trial empties its configuration; the driver is killed",
    "last-lines": "the driver is killed while a trial is beyond its last iteration",
    "second-sweep": "a second sweep comes to a cluster that the first one fills",
    "driver-killed": "the driver is killed, twice in a row",
    "driver-hung": "the driver is suspended, and another one takes over",
    "state-damaged": "the job is killed; half a journal line, half the last checkpoints",
    "folder-damaged": "checkpoints are folders; the job is killed; half a journal line, half a file of the last ones",
    "submitted-twice": "the same sweep is submitted twice",
    "stopped": "SIGTERM, then the same command",
    "disk-full": "the disk is full",
    "s3-503": "the store answers 503 for 60 s (10 s with `TENTH=1`)",
    "s3-hangs": "the store does not answer for 40 s (10 s with `TENTH=1`)",
    "s3-resets": "the store breaks every 7th connection, after it took the object",
    "s3-refuses": "the store refuses every 7th object",
    "s3-loses": "the store answers 200 and keeps nothing, every 7th time",
    "folder-refused": "checkpoints are folders; the store refuses every 7th file, sent or copied",
    "folder-lost": "checkpoints are folders; the store answers 200 and keeps nothing of every 7th file",
    "node-killed": "a worker's container is killed",
    "node-sigterm": "a worker gets SIGTERM",
    "node-cut": "a worker's network is cut until it is missed",
    "node-memory": "a trial takes all memory of its worker",
    "pod-killed": "a worker's pod is killed",
    "pod-deleted": "a worker's pod is deleted, with a minute of grace",
    "head-pod-deleted": "the pod of a RayJob's head is deleted",
    "head-killed": "the head is killed twice: a part of the journal just stored, in an upload",
}
INTRO = """# What dies, and what is lost

Written by `make chaos` ({date}, {hardware}; raw lines, and what failed before it was mended:
[{folder}](../{folder}/README.md)). A cell is a sweep of 8 trials under
one fault, which comes at the n-th journalled event, never after a time. Whether a cell passes is read from the journal, the
storage and the steps that trials note, never from a summary. `make chaos LIST=1` names the faults; `make chaos FAULT=driver-killed STRATEGY=asha,pbt` runs some cells.

I1 a trial that has ended runs no step again · I2 a running one repeats at most one checkpoint interval a fault · I3 a serial,
seeded sweep ends with the table of an undisturbed one · I4 every checkpoint that counts can be loaded, and its path has
no gap · I5 exit code 0 only if all trials are accounted for · I6 progress within 60 s after the fault · I7 no process and no
lease is left · I8 no secret in any log · I9 the journal only grows.

{total} I3 and a sweep of 1,000 trials are tests of their own, `FAULT=serial-killed` and
`thousand-trials`, whose figures are with the raw lines, as is the reason of each cell that failed.

| fault | {strategies} | failures charged | steps repeated at most | s to the next result | plain Ray Tune |
|---|{lines}---|---|---|---|
{rows}

{others}2/3: two of three runs passed, and which invariant did not hold; an empty cell was not run this time. Plain Ray Tune: ASHA on the same
bowl, 8 trials, with a checkpoint in each iteration and, by hand, `Tuner.restore` after a death of the driver
or the head; by `python -m tests.chaos.plain`; a dash: that fault was not tried with it.

A RayJob that Kueue preempts for one of a higher priority goes on later on another cluster, from its storage: `random_search`, 4 trials of
15 iterations, preempted at the 4th result or later; nothing lost, 0 iterations repeated, in one run (2026-11-27, Kueue v0.17.0; `tests/k8s/test_kueue.py` allows one a trial). It is no cell of the matrix.
"""


def read(path: str) -> list[dict[str, Any]]:
    """The lines of a file of JSON."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def page(cells: list[dict[str, Any]], plain: list[dict[str, Any]], folder: str, hardware: str) -> str:
    """The page."""
    cells = [cell for cell in cells if cell.get("met", True)]
    by_fault = grouped([cell for cell in cells if cell["strategy"] in STRATEGIES], "fault")
    by_other = grouped([cell for cell in cells if cell["strategy"] not in STRATEGIES], "fault")
    outcomes = {line["fault"]: told(line) for line in plain}
    rows = [row(fault, by_fault[fault], outcomes.get(fault, "—")) for fault in WHAT if by_fault[fault]]
    return INTRO.format(
        date=Path(folder).name[: len("2026-01-31")],
        folder=folder,
        hardware=hardware,
        total=f"Cells: **{count(cells, ' passed / ')} run**.",
        strategies=" | ".join(f"`{name}`" for name in STRATEGIES),
        lines="---|" * len(STRATEGIES),
        rows="\n".join(rows),
        others="".join(f"Other strategies, {WHAT[fault]}: {each(mine)}.\n\n" for fault, mine in by_other.items()),
    )


def grouped(cells: list[dict[str, Any]], by: str) -> dict[str, list[dict[str, Any]]]:
    """The cells of each fault, or of each strategy."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        groups[cell[by]].append(cell)
    return groups


def count(cells: list[dict[str, Any]], of: str = "/") -> str:
    """How many passed, and how many were run."""
    return f"{sum(not cell['problems'] for cell in cells)}{of}{len(cells)}"


def each(cells: list[dict[str, Any]]) -> str:
    """The count of each strategy."""
    return ", ".join(f"`{name}` {count(mine)}" for name, mine in sorted(grouped(cells, "strategy").items()))


def row(fault: str, cells: list[dict[str, Any]], plain: str) -> str:
    """One fault."""
    marks, by_strategy = [], grouped(cells, "strategy")
    for strategy in STRATEGIES:
        mine = by_strategy[strategy]
        failed = sorted({problem.split(" ")[0] for cell in mine for problem in cell["problems"]})
        marks.append(" ".join([count(mine), *failed]) if mine else "")
    recovered = [cell["recovery_s"] for cell in cells if cell["recovery_s"] is not None]
    seconds = f"{min(recovered):g} to {max(recovered):g}" if recovered else ""
    charged = sum(cell["charged"] for cell in cells)
    most = max(cell["repeated"] for cell in cells)
    return f"| {WHAT[fault]} | {' | '.join(marks)} | {charged} | {most} | {seconds} | {plain} |"


def told(line: dict[str, Any]) -> str:
    """What plain Ray did, in words."""
    ended = f"exit {line['exit']}" if isinstance(line["exit"], int) else line["exit"]
    errors = f", {line['errors']} with an error" if line.get("errors") else ""
    lost = f", {line['lost']} last checkpoints cannot be read" if line.get("lost") else ""
    second = f"; the second: exit {line['second']}" if "second" in line else ""
    return f"{ended}, {line['trials']} trials began{errors}{lost}, {line['repeated']} steps repeated{second}"


if __name__ == "__main__":
    _, where, machine = sys.argv
    print(page(read(f"{where}/chaos.jsonl"), read(f"{where}/chaos-plain.jsonl"), where, machine), end="")
