"""A trial on its worker: what a training function calls (`session`), the process around it (`actor`), and what
that is given (`run`).

A worker imports this room alone, with the storage and checkpoints below it: neither Ray Tune nor pandas, which take
longer to import than many a trial to run.
"""
