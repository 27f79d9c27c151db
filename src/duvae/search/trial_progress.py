"""Reports each epoch of a trial to the trial's study, and ends the training when the study says so.

A study is a search for hyperparameters, and a trial trains one model per seed with the same hyperparameters. A worker
is a process that runs trials; if a worker dies, another worker takes its trial over.
"""

import time

import optuna
from optuna.trial import FrozenTrial, Trial

from duvae.errors import UserError
from duvae.project.progress import Row, TrainingBar
from duvae.search.attributes import EPOCHS
from duvae.search.plan import Plan
from duvae.search.pruning import MI, Curve, StudyPruner, reported_curve, reported_mi, step_of
from duvae.search.storage import ATTEMPTS, HEARTBEAT_SECONDS, Worker
from duvae.tracking.trial_runs import TrialRun


class Pruned(Exception):
    """Is raised when a trial should end early. The message is the reason."""


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
        index: Index of the training's seed in the list of the study, from 0.
    """

    def __init__(
        self, plan: Plan, study: optuna.Study, worker: Worker, trial: Trial, run: TrialRun, index: int = 0
    ) -> None:
        seed = f", seed {plan.study.seeds[index]}" if len(plan.study.seeds) > 1 else ""
        self.name = f"{plan.name}, trial {trial.number}{seed}"
        super().__init__(self.name, plan.optimisation.epochs)
        self.plan, self.study, self.worker, self.trial, self.run, self.index = plan, study, worker, trial, run, index
        curve = self.curve
        self.mi = list(curve.mi[: len(curve.losses)])
        self.last_heartbeat = time.monotonic()

    @property
    def curve(self) -> Curve:
        """The validation curve that the trial has reported for this seed so far."""
        return reported_curve(self._stored(), self.plan.optimisation.epochs, self.index)

    def _stored(self) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[self.trial.number]

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
        if epoch <= len(self.curve.losses):
            return
        if self.plan.study.min_mi is not None:
            if mi is None:
                raise UserError(
                    f"studies.{self.plan.name}.min_mi: the posterior of {self.plan.system} has no known mutual"
                    " information. Remove min_mi."
                )
            self.mi = [*self.mi[: epoch - 1], round(mi, 4)]
            earlier = [reported_mi(self.trial.user_attrs, index) for index in range(self.index)]
            self.trial.set_user_attr(MI, [*earlier, self.mi])
        self.trial.report(float(row["valid_loss"] or 0.0), step_of(epoch, self.index, self.plan.optimisation.epochs))
        seeds = self.plan.study.seeds
        self.run.epoch(row, seeds[self.index] if len(seeds) > 1 else None)

    def reason_to_prune(self) -> str | None:
        """Asks the pruner for the reason why the training should end now; None if it should continue."""
        pruner = self.study.pruner
        assert isinstance(pruner, StudyPruner)

        return pruner.reason(self.study, self._stored())
