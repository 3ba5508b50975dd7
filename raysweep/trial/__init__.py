"""A trial on its worker.

session         what a training function calls: `resume`, `iterations`, `report`; metrics checks what it reports
tune_session    what Ray Tune's own functions talk to, for code that was written for them; trainable drives its classes
actor           the process around it
workers         how the processes of a trial that has several find each other
exits, last_words   how that process ends: on purpose, or by a signal
output, spool   where its output goes: into a file of its node, and from there into the storage
run             what that process is given
usage           how much memory it has needed
script, leash   a training function that runs any program, which ends with its trial

A worker imports this room alone, with the storage and checkpoints below it: neither Ray Tune nor pandas, which take
longer to import than many a trial to run.
"""
