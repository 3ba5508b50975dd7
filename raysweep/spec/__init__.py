"""The specification of a sweep; nothing here runs anything.

rules           what a value may be, and one sentence for one that may not
flags, task     a job's command line, and the task that it tunes
catalogue       the strategies and the tasks that there are: the project's own, and the kit's
new_task        a task to start from
function        the task's training function: its name, its parameters, whether it can be called
reports         what that function reports, read from its source
resources       what that function asks for by itself
space, paths    the search space, converted for each strategy; nested parameters
space_checks    what can be wrong with it
space_file, yaml_loader     it, in a file of YAML
described       its domains, from its description in sweep.json
prices          what machines cost, from the project's table
script_command  the command line of a task that is a script
configuration   how a drawn configuration is written as JSON, and restored
mutations       what population based training may change in it
distributions   the space's numbers in Optuna's terms
initial_points  configurations to try first
observations    what earlier sweeps have observed
sweep           flags, task and points combined: what a strategy file gets
"""
