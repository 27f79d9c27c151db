"""Trains and evaluates one model of a trial, the model of one seed.

A study is a search for hyperparameters, and a trial trains one model per seed with the same hyperparameters.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from duvae.config import Job
from duvae.data import store
from duvae.data.splits import Array
from duvae.errors import UserError
from duvae.inference import model_files
from duvae.inference.model_files import Description
from duvae.metrics.decoder_use import decoder_use, use_measures
from duvae.metrics.encoding import encode
from duvae.metrics.geometry import measures
from duvae.metrics.likelihood import importance_weighted_nll, nll_indices
from duvae.metrics.statistics import standard_error
from duvae.project.progress import Bar, Row
from duvae.search.attributes import SHARED
from duvae.search.plan import Plan
from duvae.search.reuse import equal_training
from duvae.search.storage import study_root
from duvae.search.trial_progress import Pruned, TrialProgress
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.vae import VAE


def trained_model(
    plan: Plan,
    hyperparameters: Mapping[str, Any],
    prepared: store.Prepared,
    checkpoint: Checkpoint,
    progress: TrialProgress,
) -> VAE:
    """Trains one model of a trial, or loads the model that the same training in the DVC graph gave.

    Args:
        plan: Plan of the study.
        hyperparameters: All hyperparameters of the trial, by name.
        prepared: Prepared data set of the study.
        checkpoint: File with the saved state of the training.
        progress: Progress bar of the training, which knows the index of its seed.

    Returns:
        The trained model, on its device.

    Raises:
        Pruned: If the pruner ends the training early.
        TrialLost: If another worker has taken the trial over.
    """
    seed = plan.study.seeds[progress.index]
    torch.manual_seed(seed)
    description = Description(
        plan.system,
        dict(hyperparameters),
        plan.params.setting(plan.study.setting).parts.model_dump(),
        plan.params.dataset(plan.study.dataset).networks.model_dump(),
        len(prepared.vocabulary),
    )
    model, system = description.build()
    device = model_files.device()
    job = equal_training(plan.params, plan.study, seed, description, device, study_root(plan.root))
    snapshot = checkpoint.load()
    for row in snapshot.values["state"]["history"] if snapshot else []:
        progress.report(row)  # the worker may have been killed after it saved an epoch and before it reported the epoch
    if job is not None:
        return take_over(plan, job, progress).to(device)
    if reason := progress.reason_to_prune():
        raise Pruned(reason)
    result = Training(
        model,
        system.schedule,
        system.loop(),
        prepared.split("train"),
        prepared.split("valid"),
        plan.optimisation,
        plan.params.evaluation,
        seed,
        device,
        progress,
        checkpoint,
        plan.params.precision,
    ).run()
    if result.warmup_ended:  # `Training.run` has not called `start` if it resumed after the last epoch
        model.start()

    return model


def take_over(plan: Plan, job: Job, progress: TrialProgress) -> VAE:
    """Loads a model that a job of the DVC graph has trained, and reports the history of that training to the study.

    The trial itself then trains no epoch for the seed of that job.

    Args:
        plan: Plan of the study.
        job: Job whose training gives the same weights as the trial would.
        progress: Progress bar of the training.

    Returns:
        The trained model.
    """
    root = study_root(plan.root)
    for row in read_history(root / "results" / job.folder / "history.csv"):
        progress.report(row)
    progress.trial.set_user_attr(SHARED, [*progress.trial.user_attrs.get(SHARED, []), job.name])

    return model_files.load(root / "models" / job.folder)[0]


def read_history(path: Path) -> list[Row]:
    """Reads the rows of a training history, a CSV file with one row per epoch. An empty cell becomes None."""
    frame = pd.read_csv(path)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")

    return [{str(key): value for key, value in row.items()} for row in rows]


def evaluate_on_validation(
    plan: Plan, model: VAE, prepared: store.Prepared, progress: TrialProgress
) -> tuple[dict[str, Any], Array]:
    """Measures a trained model on the validation set.

    Args:
        plan: Plan of the study.
        model: Trained model, on its device.
        prepared: Prepared data set of the study.
        progress: Progress bar of the training.

    Returns:
        Values by name: `nll`, `loss`, `kl`, `mi`, `mpd`, `ce` and `use` in nats, `nll_stderr` and `use_stderr`, which
        are standard errors over examples, and `au`, the number of active units. `loss` is the negative ELBO;
        docs/metrics.md defines the other measures. A measure that is unknown for the posterior is None. Then the NLL
        of each measured example in nats, shape (examples,).

    Raises:
        UserError: If the posterior has no density, and therefore no NLL.
    """
    valid, evaluation, device = (
        prepared.split("valid"),
        plan.params.evaluation,
        model_files.device(plan.params.precision.evaluation),
    )
    encoded = encode(model, valid, device, evaluation.seed)
    if not encoded.density:
        raise UserError(f"studies.{plan.name}: {plan.system} has no likelihood, so a study cannot compare its trials.")
    indices = nll_indices(len(valid), plan.params.dataset(plan.study.dataset).nll_examples, evaluation.seed)
    # The indices depend only on the data set and a seed, so all trials are compared on the same examples.
    part = valid if len(indices) == len(valid) else valid.only(indices)

    def reporting(bar: Bar) -> Callable[[int], None]:
        def report(count: int) -> None:
            bar.done(count)
            progress.heartbeat()

        return report

    with Bar(f"{progress.name}: NLL", len(part)) as bar:
        nll = importance_weighted_nll(model, part, plan.samples, device, evaluation.seed, reporting(bar))
    with Bar(f"{progress.name}: use of z", len(valid)) as bar:
        use = decoder_use(model, valid, encoded, device, evaluation.seed, reporting(bar))

    results = {
        "nll": float(nll.mean()),
        "nll_stderr": standard_error(nll),
        "loss": float(np.mean(encoded.reconstruction + encoded.kl, dtype=np.float64)),
        **measures(encoded, evaluation.active_threshold),
        **use_measures(use),
    }

    return results, nll
