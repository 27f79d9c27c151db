"""Searching hyperparameters: a study's plan, its trials, storage, pruning, reuse of trainings, and summary."""
