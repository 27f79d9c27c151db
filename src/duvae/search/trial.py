"""Runs one trial of a study: trains a model with given hyperparameters, and evaluates the model on the validation set.

A study is a search for hyperparameters. A worker is a process that runs trials; if a worker dies, another worker takes
its trial over. The pruner of a study is the rule that ends trials early.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

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
from duvae.project.progress import Bar, Row, TrainingBar
from duvae.search import examples
from duvae.search.plan import Plan
from duvae.search.pruning import MI, StudyPruner, reported_mi
from duvae.search.reuse import equal_training
from duvae.search.storage import ATTEMPTS, HEARTBEAT_SECONDS, Worker, fail, study_root
from duvae.systems import System
from duvae.tracking.trial_runs import TrialRun
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.vae import VAE

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
"""States of a finished trial."""

PARENT = "mlflow"
"""Name of the attribute of a study that holds the id of the study's run in MLflow."""

SHARED = "shared"
"""Name of the attribute of a trial that names the job whose training the trial took over.

A job (see `Job`) is a training in the DVC graph, which is the pipeline of dvc.yaml.
"""

EPOCHS = "epochs"
"""Name of the attribute of a trial that holds the number of epochs trained for the trial.

An epoch counts again if it was trained again after a worker was killed.
"""


class Pruned(Exception):
    """Is raised when the training of a trial should end early. The message is the reason."""


class TrialLost(Exception):
    """Is raised when another worker has taken over the trial that this worker runs."""


class TrialProgress(TrainingBar):
    """A progress bar that also reports each epoch of a trial to the trial's study.

    At the end of an epoch, the bar raises `Pruned` if the pruner ends the trial, and `TrialLost` if another worker has
    taken the trial over.

    Args:
        plan: Plan of the study.
        study: Study of the trial.
        worker: Worker that runs the trial.
        trial: Trial whose training is shown.
        run: Run of the trial in MLflow.
    """

    def __init__(self, plan: Plan, study: optuna.Study, worker: Worker, trial: Trial, run: TrialRun) -> None:
        super().__init__(f"{plan.name}, trial {trial.number}", plan.optimisation.epochs)
        self.plan, self.study, self.worker, self.trial, self.run = plan, study, worker, trial, run
        self.mi = reported_mi(trial.user_attrs)[: self.reported]
        self.last_heartbeat = time.monotonic()

    @property
    def reported(self) -> int:
        """Number of epochs of the trial that have been reported to the study."""
        return len(self.study.get_trials(deepcopy=False)[self.trial.number].intermediate_values)

    def heartbeat(self) -> None:
        """Writes the current time into the trial, as a sign that the worker is alive.

        Nothing is written if the last such time is at most `HEARTBEAT_SECONDS` ago.
        """
        if time.monotonic() - self.last_heartbeat > HEARTBEAT_SECONDS:
            self.worker.heartbeat(self.trial)
            self.last_heartbeat = time.monotonic()

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        self.heartbeat()

        return super().step(epoch, batch, batches)

    def epoch(self, row: Row) -> None:
        super().epoch(row)
        if not self.worker.owns(self.study, self.trial):
            raise TrialLost
        self.trial.set_user_attr(EPOCHS, self.trial.user_attrs.get(EPOCHS, 0) + 1)
        if self.trial.user_attrs.get(ATTEMPTS):
            self.trial.set_user_attr(ATTEMPTS, 0)
        self.report(row)
        if reason := self.reason_to_prune():
            raise Pruned(reason)

    def report(self, row: Row) -> None:
        """Reports an epoch to the study and to MLflow, unless the epoch has already been reported.

        If the study has a bound on the mutual information (MI), the MI is stored before the loss. A loss is therefore
        never stored without its MI, even if the worker is killed between the two.

        Args:
            row: Measurements of the epoch: a row of the training history.

        Raises:
            UserError: If the study has a bound on MI, but the MI of the system's posterior is unknown.
        """
        epoch, mi = int(row["epoch"] or 0), row["valid_mi"]
        if epoch <= self.reported:
            return
        if self.plan.study.min_mi is not None:
            if mi is None:
                raise UserError(
                    f"studies.{self.plan.name}.min_mi: the posterior of {self.plan.system} has no known mutual"
                    " information. Remove min_mi."
                )
            self.mi = [*self.mi[: epoch - 1], round(mi, 4)]
            self.trial.set_user_attr(MI, self.mi)
        self.trial.report(float(row["valid_loss"] or 0.0), epoch)
        self.run.epoch(row)

    def reason_to_prune(self) -> str | None:
        """Asks the pruner for the reason why the training should end now; None if it should continue."""
        pruner = self.study.pruner
        assert isinstance(pruner, StudyPruner)

        return pruner.reason(self.study, self.study.get_trials(deepcopy=False)[self.trial.number])


def run_trial(
    plan: Plan, study: optuna.Study, storage: BaseStorage, worker: Worker, trial: Trial, prepared: store.Prepared
) -> bool:
    """Trains and evaluates the model of a trial, and stores the result in the study.

    The training continues from its last saved state, if there is one.

    Args:
        plan: Plan of the study.
        study: Study of the trial.
        storage: Storage of the study.
        worker: Worker that owns the trial.
        trial: Trial to run.
        prepared: Prepared data set of the study.

    Returns:
        Whether the trial ended; False if another worker has taken it over.

    Raises:
        Interrupted: If the user asked for a stop.
        UserError: If the study cannot go on. A training that diverges raises no error: its trial fails, and the study
            goes on.
    """
    hyperparameters = plan.hyperparameters(trial.params)
    torch.manual_seed(plan.study.seed)
    description = Description(
        plan.system,
        hyperparameters,
        plan.params.setting(plan.study.setting).parts.model_dump(),
        plan.params.dataset(plan.study.dataset).networks.model_dump(),
        len(prepared.vocabulary),
    )
    model, system = description.build()
    checkpoint = Checkpoint(state_path(plan, study, trial.number), plan.params.checkpoint_seconds)
    tags = {"dataset": plan.study.dataset, "system": plan.system, "seed": str(plan.study.seed)}
    parent = str(study.user_attrs[PARENT])
    with TrialRun(study.study_name, parent, trial.number, tags, hyperparameters, study_root(plan.root)) as run:
        progress = TrialProgress(plan, study, worker, trial, run)
        try:
            with progress:
                model = trained_model(plan, description, model, system, prepared, checkpoint, progress)
            results, nll = evaluate_on_validation(plan, model, prepared, progress)
        except Pruned as pruned:
            run.end("pruned", {})
            trial.set_user_attr("why", str(pruned))
            _set_constraint(plan, trial, progress.mi[-1] if progress.mi else None)
            study.tell(trial, state=TrialState.PRUNED)
        except TrialLost:
            return False
        except UserError as error:
            if not str(error).startswith("training stopped"):  # the training did not diverge; something else failed
                raise
            run.end("failed", {})
            fail(storage, study, trial.number, str(error))
        else:
            if not worker.owns(study, trial):
                return False
            run.end("complete", results)
            for name, value in results.items():
                trial.set_user_attr(name, value)
            trial.set_user_attr(examples.ATTRIBUTE, examples.packed(nll))
            _set_constraint(plan, trial, results["mi"])
            study.tell(trial, results["nll"])
    checkpoint.remove()

    return True


def trained_model(
    plan: Plan,
    description: Description,
    model: VAE,
    system: System[Any],
    prepared: store.Prepared,
    checkpoint: Checkpoint,
    progress: TrialProgress,
) -> VAE:
    """Trains the model of a trial, or loads the model that the same training in the DVC graph gave.

    Args:
        plan: Plan of the study.
        description: System, hyperparameters, parts (options of the encoder, see `duvae.config.Parts`), networks and
            vocabulary size of the model.
        model: Model with its initial weights.
        system: System of the model.
        prepared: Prepared data set of the study.
        checkpoint: File with the saved state of the training.
        progress: Progress bar of the trial.

    Returns:
        The trained model, on its device.

    Raises:
        Pruned: If the pruner ends the training early.
        TrialLost: If another worker has taken the trial over.
    """
    device = model_files.device()
    job = equal_training(plan.params, plan.study, description, device, study_root(plan.root))
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
        plan.study.seed,
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

    The trial itself trains no epoch.

    Args:
        plan: Plan of the study.
        job: Job whose training gives the same weights as the trial would.
        progress: Progress bar of the trial.

    Returns:
        The trained model.
    """
    root = study_root(plan.root)
    for row in read_history(root / "results" / job.folder / "history.csv"):
        progress.report(row)
    progress.trial.set_user_attr(SHARED, job.name)

    return model_files.load(root / "models" / job.folder)[0]


def read_history(path: Path) -> list[Row]:
    """Reads the rows of a training history, a CSV file with one row per epoch. An empty cell becomes None."""
    frame = pd.read_csv(path)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")

    return [{str(key): value for key, value in row.items()} for row in rows]


def _set_constraint(plan: Plan, trial: Trial, mi: float | None) -> None:
    """Stores the bound of the study minus the mutual information of a trial, in nats, as a constraint of Optuna.

    The sampler TPE and Optuna's dashboard read the constraint. A value of at most 0 means that the trial satisfies the
    bound. Nothing is stored if the study has no bound or if `mi` is None.

    Args:
        plan: Plan of the study.
        trial: Trial to store the value in.
        mi: Mutual information of the trial on the validation set, in nats; None: it is unknown.
    """
    if plan.study.min_mi is not None and mi is not None:
        trial.set_constraint(MI, plan.study.min_mi - mi)


def evaluate_on_validation(
    plan: Plan, model: VAE, prepared: store.Prepared, progress: TrialProgress
) -> tuple[dict[str, Any], Array]:
    """Measures a trained model on the validation set.

    Args:
        plan: Plan of the study.
        model: Trained model, on its device.
        prepared: Prepared data set of the study.
        progress: Progress bar of the trial.

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

    with Bar(f"{plan.name}, trial {progress.trial.number}: NLL", len(part)) as bar:
        nll = importance_weighted_nll(model, part, plan.samples, device, evaluation.seed, reporting(bar))
    with Bar(f"{plan.name}, trial {progress.trial.number}: use of z", len(valid)) as bar:
        use = decoder_use(model, valid, encoded, device, evaluation.seed, reporting(bar))

    results = {
        "nll": float(nll.mean()),
        "nll_stderr": standard_error(nll),
        "loss": float(np.mean(encoded.reconstruction + encoded.kl, dtype=np.float64)),
        **measures(encoded, evaluation.active_threshold),
        **use_measures(use),
    }

    return results, nll


def state_path(plan: Plan, study: optuna.Study, number: int) -> Path:
    """Returns the path of the file with the saved training state of trial `number`."""
    return plan.root / "checkpoints" / "studies" / f"{study.study_name}-{number}.safetensors"
