"""The rules that lower the learning rate and end a training (see `duvae.config.Decay`).

A rule reads the validation loss of each epoch that counts (see `Training.decide`), in nats per example.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from duvae.config import Decay, EveryEpochDecay, PatientDecay
from duvae.training.state import Ending, State


class DecayRule(ABC):
    """A rule that says after each epoch whether the learning rate decays, and whether the training ends.

    Attributes:
        restores: Whether a decay gives the model its best weights back.
        resets: Whether a decay starts new optimisers, without the moments of the old ones.
    """

    restores: bool
    resets: bool
    ending: ClassVar[Ending]
    """The rule's name in the results of a training that the rule ended."""

    @abstractmethod
    def due(self, state: State, loss: float, best: bool) -> bool:
        """Returns whether the learning rate decays after this epoch. May change the counts in the state.

        Args:
            state: State of the training; `epoch` is the number of the epoch that has ended.
            loss: Validation loss of this epoch.
            best: Whether this loss is the lowest so far.
        """

    @abstractmethod
    def end(self, state: State, rate: float) -> str:
        """Returns the reason, in words, why a decay ends the training; empty if the training goes on.

        Args:
            state: State of the training, with the number of decays that includes this one.
            rate: Learning rate after the decay.
        """


class Patient(DecayRule):
    """Decays after `patience` epochs in a row without a better loss than the best one since the last decay.

    Source: supplement E of the paper, and the code that its authors released.

    Args:
        rule: Parameters of the rule.
    """

    restores = True
    ending = "decays"

    def __init__(self, rule: PatientDecay) -> None:
        self.rule, self.resets = rule, rule.reset

    def due(self, state: State, loss: float, best: bool) -> bool:
        if loss < state.reference_loss:
            state.reference_loss, state.without_better = loss, 0
        else:
            state.without_better += 1
        due = state.without_better >= self.rule.patience and state.epoch >= self.rule.not_before
        if due:
            state.reference_loss, state.without_better = loss, 0

        return due

    def end(self, state: State, rate: float) -> str:
        last = self.rule.at_most

        return f"at the {last}th decay, in epoch {state.epoch}" if state.decays == last else ""


class EveryEpoch(DecayRule):
    """Decays after every epoch, from the first epoch on that comes late enough and whose loss is not the best so far.

    Source: the code of Kim et al. (2018).

    Args:
        rule: Parameters of the rule.
    """

    restores = resets = False
    ending = "rate"

    def __init__(self, rule: EveryEpochDecay) -> None:
        self.rule = rule

    def due(self, state: State, loss: float, best: bool) -> bool:
        return state.decays > 0 or (not best and state.epoch >= self.rule.not_before)

    def end(self, state: State, rate: float) -> str:
        low = rate < self.rule.below

        return f"at a learning rate below {self.rule.below:g}, in epoch {state.epoch}" if low else ""


def decay_rule(decay: Decay) -> DecayRule:
    """Builds the rule that the parameters describe.

    Args:
        decay: Parameters of the rule.
    """
    return EveryEpoch(decay) if isinstance(decay, EveryEpochDecay) else Patient(decay)
