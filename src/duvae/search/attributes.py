"""States of finished trials, and names of what studies and trials keep beside hyperparameters and reported losses."""

from optuna.trial import TrialState

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
"""States of a finished trial."""

PARENT = "mlflow"
"""Name of the attribute of a study that holds the id of the study's run in MLflow."""

SHARED = "shared"
"""Name of the attribute of a trial that lists the jobs whose trainings the trial took over.

A job (see `duvae.config.Job`) is a training in the DVC graph, which is the pipeline of dvc.yaml.
"""

EPOCHS = "epochs"
"""Name of the attribute of a trial that holds the number of epochs trained for the trial.

An epoch counts again if it was trained again after a worker was killed.
"""

SEEDS = "seeds"
"""Name of the attribute of a trial that lists the measures on validation of the model of each finished seed, by name.

The list has the order of the study's seeds.
"""
