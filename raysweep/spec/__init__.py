"""What a sweep is asked to do: nothing here runs anything.

flags, task     a job's command line, and the task that it names
space           the search space, as each strategy needs it; initial_points are the first ones to try
sweep           all of it together, as a strategy file and the storage see it
"""
