"""Shows results in MLflow. The modules open MLflow's store, write the runs of jobs and trials, and load trained models.

A job is one training: a data set, a setting (a system with its hyperparameters) and a seed. A trial is one training of
a study, which is a search for hyperparameters.
"""
