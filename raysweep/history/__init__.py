"""The stored history of a sweep: modules that write and read it, without making decisions.

journal, sweep_state    all events, and the state that they add up to
segments, repair        the journal as it is stored: read, damage named, written anew
checkpoint              verified checkpoints of trials
checkpoint_folder       the files of those that are folders
marker                  what says what a checkpoint consists of
lease                   lets one driver at a time write
live                    what only the driver of a running sweep knows
trial_log, log_reader   what trials print: the objects, and reading them
inventory, removal      the sweeps of a storage and their sizes; what goes of them
results, predict        the table of trials, the best trial, its predictions
export, optuna_export   files for other tools, among them an Optuna study
cost                    the money that the journal's seconds add up to
warm_start              an earlier sweep's trials as observations for a new one
resubmit_ticket         what is needed to submit a lost job again
"""
