"""The specification of a sweep; nothing here runs anything.

rules           what a value may be, and one sentence for one that may not
flags, task     a job's command line, and the task that it tunes
space, paths    the search space, converted for each strategy; nested parameters
distributions   the same numbers in Optuna's terms
initial_points  configurations to try first
sweep           flags, task and points combined: what a strategy file gets
"""
