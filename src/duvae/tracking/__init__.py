"""MLflow: its store, the runs of jobs and of trials, and trained models in MLflow's format."""
