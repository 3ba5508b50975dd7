"""A trial on its worker.

session         what a training function calls: `resume`, `iterations`, `report`; metrics checks what it reports
actor           the process around it
run             what that process is given

A worker imports this room alone, with the storage and checkpoints below it: neither Ray Tune nor pandas, which take
longer to import than many a trial to run.
"""
