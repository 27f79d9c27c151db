"""Aggressive training of the encoder (He et al. 2018, Algorithm 1), which the system Agg-VAE uses."""

import math

import torch
from torch import Tensor

from duvae.objectives import Loss
from duvae.training.steps import JointLoop, Updates


class AggressiveLoop(JointLoop):
    """For each training batch, trains the encoder alone until the loss no longer falls, then the decoder for one step.

    - The first encoder step uses the training batch itself, and each further encoder step uses a random batch. The
      step of the decoder uses the training batch again.
    - After every `window` encoder steps, the loop computes the mean loss per word or per image of these steps. If this
      mean is greater than the mean of the `window` steps before, the encoder steps end. The first mean has no
      predecessor. The encoder therefore takes at least 2 * `window` steps, unless `max_inner` is smaller.
    - After each epoch, the loop compares the mutual information of x and z on the validation set with its maximum so
      far, which starts at 0. An epoch counts if its value is below the maximum. After `patience` such epochs in total,
      in a row or not, aggressive training ends. From then on, encoder and decoder step together on each batch. With a
      patience of 1, the first fall of the mutual information ends aggressive training.

    The code of He et al. has the same rule: a patience of 1 for texts, and of 5 for images. There, too, the mutual
    information is that within batches (see `duvae.metrics.geometry.information_in_batches`).

    Args:
        window: Number of encoder steps between two comparisons of the mean loss.
        max_inner: Largest number of encoder steps before each step of the decoder.
        patience: Number of epochs, in total, whose mutual information is below its maximum so far, after which
            aggressive training ends.
    """

    def __init__(self, window: int, max_inner: int, patience: int) -> None:
        self.window, self.max_inner, self.patience = window, max_inner, patience
        self.aggressive = True
        self.best = 0.0
        self.below_best = 0

    @property
    def reads_information(self) -> bool:
        return self.aggressive

    def step(self, updates: Updates, x: Tensor, weight: float) -> Loss:
        if not self.aggressive:
            return super().step(updates, x, weight)

        previous, units = math.inf, 0
        total = torch.zeros((), device=x.device)
        batch = x
        for inner in range(1, self.max_inner + 1):
            total += updates.gradients(batch, weight).total.sum()
            units += updates.model.decoder.units(batch)
            updates.encoder.step()
            updates.model.after_step()
            self.encoder_steps += 1
            if inner % self.window == 0:
                current = total.item() / units
                if current > previous:
                    break
                previous, units = current, 0
                total.zero_()
            batch = updates.draw()
        loss = updates.gradients(x, weight)
        updates.decoder.step()

        return loss

    def epoch_ended(self, mutual_information: float | None) -> None:
        if mutual_information is None or not self.aggressive:
            return
        if mutual_information >= self.best:
            self.best = mutual_information
        else:
            self.below_best += 1
            self.aggressive = self.below_best < self.patience

    def state(self) -> dict[str, object]:
        names = ("encoder_steps", "aggressive", "best", "below_best")

        return {name: getattr(self, name) for name in names}
