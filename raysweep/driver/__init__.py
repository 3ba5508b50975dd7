"""Runs a job from its command line to its exit code: `main` for strategy files, `run` for notebooks.

preflight       all checks before anything starts
check           says before a sweep what it takes and costs, from a few timed configurations
measure         times these in real processes of trials
pace            what an iteration of any other configuration takes
forecast        simulates the sweep on these seconds
fit             whether its trials fit into a node's memory
warm_start      gives a new sweep what earlier ones have observed
wrap            runs a script instead of a task
verify          trains the best configurations of a sweep again, with fresh seeds
runner          assembles and runs the loop of one sweep
live_report     keeps its page up to date meanwhile
live_status     writes what only the driver knows, for `raysweep watch`
supervisor      restarts a driver that died
unexpected      tells of an exception that is no RaysweepError
local_ray       connects to a cluster, or starts a private Ray on this machine
capacity        the largest size that a cluster can grow to
"""
