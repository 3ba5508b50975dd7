"""What sweeps say together: recorded, simulated, compared and verified.

table           learning curves in a file, for pandas and for simulations
record          makes one of finished sweeps
curves          its curves as outcomes of simulated trials
simulator       the strategies on them, with a clock of their own
trajectory      the best so far of a sweep, finished or simulated
sweeps          the finished sweeps that a command line names
comparison      which strategy is better, and whether that may be luck
verification    how optimistic a sweep's own number was
"""
