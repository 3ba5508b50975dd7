"""A trial on its worker: what a training function calls (`session`), and the process around it (`actor`).

A worker imports this room alone, with the storage and checkpoints below it: neither Ray Tune nor pandas, which take
longer to import than many a trial to run.
"""
