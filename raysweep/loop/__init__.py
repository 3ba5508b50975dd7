"""The main loop of a sweep: read `loop` first; it uses the other modules.

controller      stands in for Ray Tune's own controller: the trials as schedulers see them, live and in a replay
scheduler       one of Ray's schedulers, with reproducible draws
optuna_search, random_grid_search    where configurations come from
searcher        what the loop needs of a searcher
executor        the interface to what runs trials: ray_executor on a cluster, simulation on a simulated clock
crew            the processes of a place, which run one trial together
places          where trials may run on a cluster: placement groups, shared with other sweeps
failures        why a trial failed, and whether it starts again
stopping, interrupt, hang_watchdog   what ends a trial or the sweep early
show_output     shows what trials print, if that is wanted
recorder        writes the journal; observers are notified afterwards: progress, tensorboard, ray_metrics
adopt_results   what a dead driver's trials saved and the journal lacks
assemble        puts these together, for a job and for simulations
outcomes, memory_storage    of simulations only: what trials report, and a storage without files
"""
