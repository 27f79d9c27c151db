"""The rule that ends trainings of a study early: successive halving that knows the warm-up and a bound on MI.

The rule is asynchronous (Li et al. 2020): a training is compared with the trainings that have reached the same epoch,
and waits for none.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from duvae.config import Prune

MI = "mi_of_epochs"
"""Attribute of a trial: its mutual information on validation, in nats, one entry per epoch."""


@dataclass(frozen=True)
class Curve:
    """The validation curve of a training, up to its last finished epoch.

    Attributes:
        losses: Validation loss of each epoch: the negative ELBO at KL weight 1, in nats.
        mi: Mutual information of each epoch on validation, in nats; empty if the study has no bound on it.
    """

    losses: Sequence[float]
    mi: Sequence[float] = ()

    def best(self, warmup: int, epoch: int, min_mi: float | None = None) -> float:
        """Least loss of the feasible epochs between the end of the warm-up and `epoch`, in nats."""
        return min(self.losses[e - 1] for e in range(warmup + 1, epoch + 1) if self.feasible(e, min_mi))

    def feasible(self, epoch: int, min_mi: float | None) -> bool:
        """Whether the mutual information of an epoch lies above the bound of the study."""
        return min_mi is None or self.mi[epoch - 1] > min_mi


def reason_to_prune(
    own: Curve, others: Iterable[Curve], warmup: int, rule: Prune, min_mi: float | None = None
) -> str | None:
    r"""The reason why a training should end after its last epoch.

    - During the warm-up, while the KL weight is below 1, no training ends. Rungs are counted from the end of the
      warm-up.
    - At a rung, epoch e, a training continues if its best loss since the warm-up is among the
      $\lceil \kappa n \rceil$ least of n compared losses. These are its own loss and the best losses of all trainings
      whose mutual information in epoch e exceeds `min_mi`. Only their epochs above `min_mi` count. A collapsed
      training has the lowest loss of all, and is never compared with.
    - After the grace period, a training ends if its mutual information was at most `min_mi` in each of the last
      `rule.grace` epochs. The variance floor and the dropout on variances start at the end of the warm-up; after that
      MI first falls and may then rise again.

    Args:
        own: Curve of the training in question.
        others: Curves of the other trainings of the study, finished or not.
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
    """The validation curve that a trial has reported."""
    losses = [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]

    return Curve(losses, reported_mi(trial.user_attrs))


def reported_mi(attributes: Mapping[str, object]) -> list[float]:
    """The mutual information of each epoch in nats, from the attributes of a trial."""
    values = attributes.get(MI, [])

    return list(values) if isinstance(values, list) else []


class StudyPruner(BasePruner):
    """Optuna's interface to `reason_to_prune`.

    Args:
        warmup: Number of epochs over which the KL weight rises to 1.
        rule: Rungs, share and grace period; None: no training ends early.
        min_mi: Bound of the study on the mutual information, in nats; None: no bound.
    """

    def __init__(self, warmup: int, rule: Prune | None, min_mi: float | None) -> None:
        self.warmup, self.rule, self.min_mi = warmup, rule, min_mi

    def reason(self, study: Study, trial: FrozenTrial) -> str | None:
        """The reason why a trial should end now; None if it should continue."""
        if self.rule is None:
            return None
        states = (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE, TrialState.PRUNED)
        trials = study.get_trials(deepcopy=False, states=states)
        others = [reported_curve(other) for other in trials if other.number != trial.number]

        return reason_to_prune(reported_curve(trial), others, self.warmup, self.rule, self.min_mi)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a trial should end now."""
        return self.reason(study, trial) is not None
