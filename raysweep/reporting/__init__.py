"""The page of a sweep, report.html: everything is read from its journal and sweep.json, and drawn by plotly.js.

It is not called report: `raysweep.report` is what a training function calls.

page, write             the whole page of one or several sweeps; made and put into the storage
ledger                  what the time went into: work, failures, rungs
judgement               what speaks for and against the best trial, and what to do next
scores                  the result of each trial that counts
importance              of the parameters, with intervals
chart                   one figure as plotly.js takes it
progress_charts         best so far, learning curves, rungs, Pareto front
parameter_charts        importance, parallel coordinates, slices
run_charts              the timeline, and a population's lineage and schedules
"""
