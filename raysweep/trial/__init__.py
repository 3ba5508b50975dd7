"""A trial on its worker.

session         what a training function calls: `resume`, `iterations`, `report`; metrics checks what it reports
actor           the process around it
exits, last_words   how that process ends: on purpose, or by a signal
run             what that process is given
script, leash   a training function that runs any program, which ends with its trial

A worker imports this room alone, with the storage and checkpoints below it: neither Ray Tune nor pandas, which take
longer to import than many a trial to run.
"""
