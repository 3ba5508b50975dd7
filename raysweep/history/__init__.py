"""What happened in a sweep, as its storage has it: this room writes it and reads it, and decides nothing.

journal, sweep_state    every event, and what they add up to
checkpoint              verified states of trials
lease                   which driver may write
results, predict        what came out: a table, the best trial, a prediction by it
export, optuna_export   the files for other tools, an Optuna study among them
resubmit_ticket         what a job leaves so that it can be submitted again, should it be lost
"""
