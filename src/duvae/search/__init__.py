"""Searching hyperparameters: the plan of a study, its trials, its storage, pruning, reuse and the summary."""
