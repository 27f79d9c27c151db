"""The search for hyperparameters: plans of studies, trials, storage, pruning, reuse of trainings, and summaries."""
