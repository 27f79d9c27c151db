"""Searches for the hyperparameters of a system. A study is one search, and a trial is one training of a study.

The modules plan a study, run and prune its trials, store them, reuse existing trainings, and summarize the results.
"""
