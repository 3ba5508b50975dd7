"""Looking at a sweep while it runs and afterwards: in the terminal, and in a browser.

followed    its results, kept up to date by what is appended to its journal
tally       what one look at it shows: states, the best, rates, failures, the driver
frame       that, as it stands in a terminal
watch       frame after frame, until the sweep ends
page        serves its page, report.html
events      TensorBoard's files and an Optuna study of it, in a folder of this machine
programs    TensorBoard and optuna-dashboard on these
"""
