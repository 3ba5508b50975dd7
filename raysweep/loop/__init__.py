"""The main loop of a sweep: `loop` is the page to read first, the other modules are what it asks.

controller      what Ray Tune's schedulers are handed: the trials, live and in a replay of the journal
scheduler       one of Ray's schedulers, with reproducible draws
optuna_search, random_grid_search    where configurations come from
executor        the seam to what runs trials: ray_executor on a cluster, simulation on a clock of its own
failures        why a trial failed, and whether it starts again
stopping, interrupt, hang_watchdog   what ends a trial, or the sweep, before its time
recorder        writes the journal; observers hear of it afterwards: progress, tensorboard
assemble        puts these together, for a runner and for simulations: their outcomes, a storage in memory
"""
