"""The state of a training, its result, and the interface of its progress display."""

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

Row = dict[str, float | int | None]
"""One row of the training history: the values of one epoch, by name.

None: the value is not defined for the model, such as the KL of an autoencoder.
"""

Ending = Literal["decays", "epochs", "rate"]
"""Rule that ended a training.

- `decays`: the last decay of the learning rate.
- `epochs`: the largest number of epochs.
- `rate`: a learning rate below its smallest value.
"""


@runtime_checkable
class Progress(Protocol):
    """Interface of an object that the training informs about its progress, such as a progress bar."""

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        """Receives the position of the training after each training step, which is the work on one batch.

        Args:
            epoch: Number of the current epoch, from 1.
            batch: Number of the finished batch in the current epoch, from 1.
            batches: Number of batches in the epoch.

        Returns:
            Whether the training should stop now.
        """

    def epoch(self, row: Row) -> None:
        """Receives the results of an epoch at the end of the epoch.

        Args:
            row: Row of the training history for this epoch.
        """


class NoProgress:
    """A `Progress` that shows nothing and never stops the training."""

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        """Lets the training continue."""
        return False

    def epoch(self, row: Row) -> None:
        """Does nothing."""


@dataclass
class TrainingResult:
    """The result of a training, apart from the model.

    Attributes:
        history: Rows of the training history, one per epoch.
        best_epoch: Number of the epoch, from 1, whose final weights the model has after the training.
        warmup_ended: Whether at least one epoch followed the warm-up. If not, and if parts of the model start only
            after the warm-up, no epoch counts as the best, and the model has the weights of the last epoch.
        stopped: Reason why the training ended, in words.
        decays: Number of decays of the learning rate that were due, including the decay that ended the training.
        ending: Rule that ended the training (see `Ending`).
        seconds: Wall time of each epoch, in seconds.
    """

    history: list[Row]
    best_epoch: int
    warmup_ended: bool
    stopped: str
    decays: int
    ending: Ending
    seconds: list[float]


@dataclass
class State:
    """The values of a training between two steps that are not tensors. A saved state contains them.

    Attributes:
        learning_rate: Learning rate of both optimisers.
        epoch: Number of finished epochs.
        batch: Number of finished batches in the current epoch.
        step: Number of finished steps in all epochs, one step per batch.
        sums: Sums of total loss, reconstruction and KL over the examples of the current epoch so far, in nats.
        encoder_steps: Value of `Loop.encoder_steps`, the number of steps of the encoder alone, at the start of the
            current epoch.
        best_loss: Lowest validation loss of an epoch that counts, in nats per example; infinity until such an epoch
            has ended. Epochs of the warm-up do not count if parts of the model start only after the warm-up.
        best_epoch: Number of the epoch that had `best_loss`; 0 until an epoch that counts has ended.
        reference_loss: Validation loss that the next epoch has to beat, in nats per example: the lowest loss since the
            last decay, or of all epochs that count if there was no decay. A decay sets it to the loss of the decay's
            epoch. Only the rule `Patient` uses it and the next value.
        without_better: Number of epochs in a row whose loss was not below `reference_loss`; a decay sets it to 0.
        decays: Number of decays of the learning rate so far.
        stopped: Reason why the training has ended, in words; empty while the training goes on.
        ending: Rule that has ended the training (see `Ending`); `epochs` while no other rule has ended it.
        history: Rows of the training history, one per finished epoch.
        seconds: Wall time of each finished epoch, in seconds.
    """

    learning_rate: float
    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: tuple[float, float, float] = (0.0, 0.0, 0.0)
    encoder_steps: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    reference_loss: float = math.inf
    without_better: int = 0
    decays: int = 0
    stopped: str = ""
    ending: Ending = "epochs"
    history: list[Row] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
