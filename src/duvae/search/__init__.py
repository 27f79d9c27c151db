"""Searches for the best hyperparameters of a system. A study is one search, and a trial is one training of a study.

The modules of this package plan a study, run its trials, end unpromising trials early, store the trials, and summarize
the results. A trial that would repeat a training of the DVC graph takes over the model of that training.
"""
