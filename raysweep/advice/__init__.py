"""Which strategy to choose before a sweep, with the reason and the evidence. It starts nothing.

case        what a choice depends on: the task's space and function, the budget, the workers
rules       the table: when which strategy with which flags, why, and how that is known
refusals    the strategies that a task cannot have, as the checks before a start say it
advisor     the first rule that fits, and why every other strategy is not chosen

It is above driver/, whose checks say what is illegal, and study/, whose simulations are the evidence.
"""
