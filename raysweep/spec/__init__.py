"""The specification of a sweep; nothing here runs anything.

flags, task     a job's command line, and the task that it tunes
space           the search space, converted for each strategy
initial_points  configurations to try first
sweep           flags, task and points combined: what a strategy file gets
"""
