"""Which trainings of a study are ended early: successive halving over validation losses, aware of warm-up and MI.

Asynchronous: a training is compared with what has got as far as it has, and waits for nobody (Li et al. 2020).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from duvae.config import Prune

MI = "mi_of_epochs"
"""The attribute of a trial that holds its mutual information on validation, an entry an epoch."""


@dataclass(frozen=True)
class Curve:
    """What is known of a training while it goes on.

    Attributes:
        losses: Validation loss (the negative ELBO at KL weight 1, in nats) of each epoch that is done.
        mi: Mutual information on validation in nats, likewise; empty where none is asked for.
    """

    losses: Sequence[float]
    mi: Sequence[float] = ()

    def best(self, warmup: int, epoch: int, min_mi: float | None = None) -> float:
        """The least loss of the epochs after the warm-up, up to this one, that have the mutual information."""
        return min(self.losses[e - 1] for e in range(warmup + 1, epoch + 1) if self.feasible(e, min_mi))

    def feasible(self, epoch: int, min_mi: float | None) -> bool:
        """Whether its mutual information in this epoch is what the study asks for."""
        return min_mi is None or self.mi[epoch - 1] > min_mi


def verdict(own: Curve, others: Iterable[Curve], warmup: int, rule: Prune, min_mi: float | None = None) -> str | None:
    r"""Why a training should end after its last epoch, or None.

    - In the warm-up, while the KL weight is under 1, nothing is judged: rungs are counted from its end.
    - At a rung, epoch e, it goes on if its best loss since the warm-up is among the
      $\lceil \kappa n \rceil$ least of the n that are compared: itself, and all that had a mutual information above
      `min_mi` in that same epoch, with their best loss of epochs that had it. A collapsed training has the lowest
      loss; it counts against none.
    - After the grace period (floor and dropout on the variances start with the end of the warm-up, and MI falls
      before it rises again) it ends if its mutual information has been at most `min_mi` in every epoch of a period as
      long.

    Args:
        own: The training that is judged, up to now.
        others: The other trainings of the study, finished or not.
        warmup: Epochs over which the KL weight rises to 1.
        rule: Rungs, the share $\kappa$ that goes on, the grace period.
        min_mi: What the study asks of the mutual information, in nats; None: nothing.
    """
    epoch = len(own.losses)
    after = epoch - warmup
    if after < 1:
        return None
    if min_mi is not None and after > rule.grace:
        lately = own.mi[epoch - rule.grace : epoch]
        if max(lately) <= min_mi:
            return f"MI at most {max(lately):.2f} in epochs {epoch - rule.grace + 1} to {epoch}"
    if after not in rule.rungs:
        return None
    beside = [
        other.best(warmup, epoch, min_mi)
        for other in others
        if len(other.losses) >= epoch and other.feasible(epoch, min_mi)
    ]
    mine = own.best(warmup, epoch)
    better = sum(loss < mine for loss in beside)
    if better < math.ceil(rule.keep * (len(beside) + 1)):
        return None

    return f"loss {mine:.2f} after {epoch} epochs, {better} of {len(beside)} were lower"


def curve(trial: FrozenTrial) -> Curve:
    """What a trial has reported."""
    return Curve(
        [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)], mi(trial.user_attrs)
    )


def mi(attributes: Mapping[str, object]) -> list[float]:
    """The mutual information of each epoch, as a trial's attributes hold it."""
    found = attributes.get(MI, [])

    return list(found) if isinstance(found, list) else []


class WarmPruner(BasePruner):
    """`verdict` as Optuna asks for it.

    Args:
        warmup: Epochs over which the KL weight rises to 1.
        rule: Rungs, share, grace period; None: nothing is ended early.
        min_mi: What the study asks of the mutual information, in nats.
    """

    def __init__(self, warmup: int, rule: Prune | None, min_mi: float | None) -> None:
        self.warmup, self.rule, self.min_mi = warmup, rule, min_mi

    def why(self, study: Study, trial: FrozenTrial) -> str | None:
        """Why a trial should end now, or None."""
        if self.rule is None:
            return None
        states = (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE, TrialState.PRUNED)
        others = [curve(t) for t in study.get_trials(deepcopy=False, states=states) if t.number != trial.number]

        return verdict(curve(trial), others, self.warmup, self.rule, self.min_mi)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return self.why(study, trial) is not None
