"""The rule that ends trainings of a study early: successive halving with a warm-up and a bound on mutual information.

A study is a search for hyperparameters, and each of its trials is one training. The rule compares trainings at some
epochs, which are called rungs. At a rung a training ends unless its validation loss is among the lowest. The rule is
asynchronous (Li et al. 2020): it compares a training with the trainings that have already reached the same epoch, and
does not wait for the remaining trainings.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from duvae.config import Prune

MI = "mi_of_epochs"
"""Name of the attribute of a trial that lists the mutual information of each epoch on the validation set, in nats."""


@dataclass(frozen=True)
class Curve:
    """The validation curve of a training: values of each epoch, up to the last finished epoch of the training.

    Attributes:
        losses: Validation loss of each epoch: the negative ELBO at KL weight 1, in nats.
        mi: Mutual information of each epoch on the validation set, in nats; empty if the study has no bound on mutual
            information.
    """

    losses: Sequence[float]
    mi: Sequence[float] = ()

    def best(self, warmup: int, epoch: int, min_mi: float | None = None) -> float:
        """Returns the least validation loss in nats, over all epochs after the warm-up, up to and including `epoch`.

        Args:
            warmup: Number of epochs of the warm-up, over which the KL weight rises to 1.
            epoch: Number of the last epoch that counts, from 1.
            min_mi: Bound of the study. Only epochs with mutual information above `min_mi` count; None: all epochs
                count.
        """
        return min(self.losses[e - 1] for e in range(warmup + 1, epoch + 1) if self.feasible(e, min_mi))

    def feasible(self, epoch: int, min_mi: float | None) -> bool:
        """Returns whether the mutual information of an epoch lies above the bound of the study.

        Args:
            epoch: Number of the epoch, from 1.
            min_mi: Bound of the study on the mutual information, in nats; None: no bound, so the result is True.
        """
        return min_mi is None or self.mi[epoch - 1] > min_mi


def reason_to_prune(
    own: Curve, others: Iterable[Curve], warmup: int, rule: Prune, min_mi: float | None = None
) -> str | None:
    r"""Gives the reason why a training should end early, after the epoch that it has just finished.

    - No training ends during the warm-up, while the KL weight is below 1. The epochs of the rungs are counted from the
      end of the warm-up.
    - A rung is an epoch e at which n trainings are compared: this training, and each other training that has mutual
      information above `min_mi` in epoch e. One loss of each training is compared. For this training, it is the least
      loss of the epochs from the end of the warm-up to e. For each other training, it is the least loss of those of
      these epochs that have mutual information above `min_mi`. This training continues if its loss is among the
      $\lceil \kappa n \rceil$ lowest of the n losses.
    - Trainings whose posterior has collapsed to the prior have the lowest losses of all. Because of the bound `min_mi`,
      this training is not compared with other trainings that have collapsed.
    - The grace period is the first `rule.grace` epochs after the warm-up. After the grace period, a training ends if
      its mutual information was at most `min_mi` in each of the last `rule.grace` epochs. The grace period is needed
      because the mutual information falls at the end of the warm-up and may rise again later. It falls because two
      regularizers start then: the lower bound of the variances and the dropout on the variances.

    Args:
        own: Validation curve of the training that may end.
        others: Validation curves of the other trainings of the study, finished or not.
        warmup: Number of epochs over which the KL weight rises to 1.
        rule: Rungs, share $\kappa$ of trainings that continue, and grace period.
        min_mi: Bound of the study on the mutual information, in nats; None: no bound.

    Returns:
        The reason in words; None if the training should continue.
    """
    epoch = len(own.losses)
    after = epoch - warmup
    if after < 1:
        return None
    if min_mi is not None and after > rule.grace:
        recent = own.mi[epoch - rule.grace : epoch]
        if max(recent) <= min_mi:
            return f"MI at most {max(recent):.2f} in epochs {epoch - rule.grace + 1} to {epoch}"
    if after not in rule.rungs:
        return None
    compared = [
        other.best(warmup, epoch, min_mi)
        for other in others
        if len(other.losses) >= epoch and other.feasible(epoch, min_mi)
    ]
    own_best = own.best(warmup, epoch)
    lower = sum(loss < own_best for loss in compared)
    if lower < math.ceil(rule.keep * (len(compared) + 1)):
        return None

    return f"loss {own_best:.2f} after {epoch} epochs, {lower} of {len(compared)} were lower"


def reported_curve(trial: FrozenTrial) -> Curve:
    """Returns the validation curve that a trial has reported to its study so far."""
    losses = [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]

    return Curve(losses, reported_mi(trial.user_attrs))


def reported_mi(attributes: Mapping[str, object]) -> list[float]:
    """Reads the mutual information of each epoch in nats from the attributes of a trial; empty if there is none."""
    values = attributes.get(MI, [])

    return list(values) if isinstance(values, list) else []


class StudyPruner(BasePruner):
    """A pruner of Optuna that applies `reason_to_prune` to the trials of a study.

    Args:
        warmup: Number of epochs over which the KL weight rises to 1.
        rule: Rungs, share of trainings that continue, and grace period; None: no training ends early.
        min_mi: Bound of the study on the mutual information, in nats; None: no bound.
    """

    def __init__(self, warmup: int, rule: Prune | None, min_mi: float | None) -> None:
        self.warmup, self.rule, self.min_mi = warmup, rule, min_mi

    def reason(self, study: Study, trial: FrozenTrial) -> str | None:
        """Gives the reason why a trial should end now; None if the trial should continue."""
        if self.rule is None:
            return None
        states = (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE, TrialState.PRUNED)
        trials = study.get_trials(deepcopy=False, states=states)
        others = [reported_curve(other) for other in trials if other.number != trial.number]

        return reason_to_prune(reported_curve(trial), others, self.warmup, self.rule, self.min_mi)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tells Optuna whether a trial should end now."""
        return self.reason(study, trial) is not None
