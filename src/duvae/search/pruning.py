"""The rules that end trials of a study early: successive halving, and paired comparisons between seeds.

A study is a search for hyperparameters. Each of its trials trains one model per seed with the same hyperparameters.

The first rule is for the training of the first seed. It compares trainings at some epochs, which are called rungs. At a
rung a training ends unless its validation loss is among the lowest. The rule is asynchronous (Li et al. 2020): it
compares a training with the trainings that have already reached the same epoch, and does not wait for the remaining
trainings. The rule has a warm-up and a bound on mutual information.

The second rule is for the moments between two seeds. It compares the NLL of each validation example with that of the
best trial, and ends the trial if the trial is worse.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from duvae.config import Prune
from duvae.data.splits import Array
from duvae.metrics.paired import pooled_interval, seed_spread
from duvae.search.attributes import SEEDS

MI = "mi_of_epochs"
"""Name of the attribute of a trial with the mutual information of each epoch on the validation set, in nats.

It has one list per seed.
"""


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


def reason_between_seeds(own: Sequence[Array], complete: Mapping[int, Sequence[Array]]) -> str | None:
    """Gives the reason why a trial should end before it trains the model of its next seed.

    The trial ends if its NLL is higher than that of the best complete trial, by a paired 95 % interval over the
    examples and the seeds that the trial has so far. How much seeds vary is estimated from all complete trials (see
    `duvae.metrics.paired.pooled_interval`), so the first seed alone may already suffice. The best trial is the one with
    the lowest mean NLL.

    Args:
        own: NLL of each validation example in nats under the trial's models, one array of shape (examples,) per seed.
        complete: The same of the complete trials of the study that satisfy its bound on mutual information, by number
            of the trial; they have all seeds of the study.

    Returns:
        The reason in words; None if the trial should go on, also as long as fewer than two trials are complete.
    """
    spread = seed_spread(list(complete.values()))
    if spread is None:
        return None
    best = min(complete, key=lambda number: float(np.mean(complete[number])))
    found = pooled_interval(own, complete[best][: len(own)], spread)
    if found.sign <= 0:
        return None
    seeds = "the first seed" if len(own) == 1 else f"{len(own)} seeds"

    return (
        f"NLL {found.difference:.2f} nats above that of trial {best} with {seeds} (95 % interval {found.low:.2f} to"
        f" {found.high:.2f})"
    )


def reported_curve(trial: FrozenTrial, epochs: int, index: int = 0) -> Curve:
    """Returns the validation curve that a trial has reported for one of its seeds so far.

    Args:
        trial: Trial whose reported losses are read.
        epochs: Limit of the epochs of a training (see `step_of`).
        index: Index of the seed in the list of the study, from 0.
    """
    steps = [step for step in sorted(trial.intermediate_values) if index * epochs < step <= (index + 1) * epochs]

    return Curve([trial.intermediate_values[step] for step in steps], reported_mi(trial.user_attrs, index))


def reported_mi(attributes: Mapping[str, object], index: int) -> list[float]:
    """Reads the mutual information of each epoch of one seed, in nats; empty if there is none.

    Args:
        attributes: Attributes of a trial.
        index: Index of the seed in the list of the study, from 0.
    """
    seeds = attributes.get(MI, [])

    return list(seeds[index]) if isinstance(seeds, list) and index < len(seeds) else []


def step_of(epoch: int, index: int, epochs: int) -> int:
    """Returns the step at which a trial reports an epoch to its study: the seeds follow each other.

    Args:
        epoch: Number of the epoch, from 1.
        index: Index of the seed in the list of the study, from 0.
        epochs: Limit of the epochs of a training.
    """
    return index * epochs + epoch


class StudyPruner(BasePruner):
    """A pruner of Optuna that applies `reason_to_prune` to the first seeds of the trials of a study.

    Args:
        warmup: Number of epochs over which the KL weight rises to 1.
        epochs: Limit of the epochs of a training.
        rule: Rungs, share of trainings that continue, and grace period; None: no training ends early.
        min_mi: Bound of the study on the mutual information, in nats; None: no bound.
    """

    def __init__(self, warmup: int, epochs: int, rule: Prune | None, min_mi: float | None) -> None:
        self.warmup, self.epochs, self.rule, self.min_mi = warmup, epochs, rule, min_mi

    def reason(self, study: Study, trial: FrozenTrial) -> str | None:
        """Gives the reason why the training of a trial's first seed should end now; None if it should continue.

        For later seeds there is no such reason: between two seeds, `reason_between_seeds` decides.
        """
        if self.rule is None or trial.user_attrs.get(SEEDS):
            return None
        states = (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE, TrialState.PRUNED)
        trials = study.get_trials(deepcopy=False, states=states)
        others = [reported_curve(other, self.epochs) for other in trials if other.number != trial.number]

        return reason_to_prune(reported_curve(trial, self.epochs), others, self.warmup, self.rule, self.min_mi)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tells Optuna whether a trial should end now."""
        return self.reason(study, trial) is not None
