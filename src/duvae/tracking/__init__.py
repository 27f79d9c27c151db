"""MLflow: its store, the runs of results and of trials, and models in its own format."""
