"""Shows results in MLflow: opens its store, writes the runs of jobs and of trials, and loads trained models.

A job is one training: a data set, a setting (a system with its hyperparameters) and a seed. A trial is one training of
a study, which is a search for hyperparameters.
"""
