"""Plain Ray Tune under the same faults: what it does with them, for the column beside ours in docs/faults.md.

    python -m tests.chaos.plain FAULT...                   runs these faults, prints one line of JSON for each
    python -m tests.chaos.plain --all                      runs them all; those of nodes and pods want `make image`

The sweep is that of a cell (ASHA, 8 trials of 9 iterations of the bowl), written as Ray's documentation has it: a
function trainable that reports a checkpoint in each iteration, a Tuner, `Tuner.restore` after a death of the driver.
It runs in a private Ray, with a folder or a bucket behind the proxy, or as a job on the cluster of containers or of
pods. What happened is read from the steps that the trials note, not from Ray's own summary.
"""
