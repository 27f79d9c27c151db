"""Aggressive training of the encoder (He et al. 2018, Algorithm 1)."""

import math

import torch
from torch import Tensor

from duvae.objectives import Loss
from duvae.training.steps import JointLoop, Updates


class AggressiveLoop(JointLoop):
    """While aggressive: steps of the encoder alone until its loss no longer falls, then one of the decoder alone.

    The encoder's first step is on the batch itself, the next on random ones. Every `window` steps the mean
    loss per word (per image) is compared with the stretch before; the first comparison is with infinity, so
    there are at least 2 `window` steps. Aggressive training ends for good once the validation set's mutual
    information has not beaten its best for `patience` epochs; then encoder and decoder step together.

    Args:
        window: Steps between comparisons.
        max_inner: Encoder steps at most for one of the decoder.
        patience: Epochs without a better mutual information that end it.
    """

    def __init__(self, window: int, max_inner: int, patience: int) -> None:
        self.window, self.max_inner, self.patience = window, max_inner, patience
        self.aggressive = True
        self.best = 0.0
        self.without_better = 0

    def step(self, updates: Updates, x: Tensor, weight: float) -> Loss:
        if not self.aggressive:
            return super().step(updates, x, weight)

        before, units = math.inf, 0
        total = torch.zeros((), device=x.device)
        drawn = x
        for inner in range(1, self.max_inner + 1):
            total += updates.gradients(drawn, weight).total.sum()
            units += updates.model.decoder.units(drawn)
            updates.encoder.step()
            updates.model.after_step()
            self.encoder_steps += 1
            if inner % self.window == 0:
                now = total.item() / units
                if now > before:
                    break
                before, units = now, 0
                total.zero_()
            drawn = updates.draw()
        loss = updates.gradients(x, weight)
        updates.decoder.step()

        return loss

    def epoch_ended(self, mutual_information: float | None) -> None:
        if mutual_information is None or not self.aggressive:
            return
        if mutual_information > self.best:
            self.best, self.without_better = mutual_information, 0
        else:
            self.without_better += 1
            self.aggressive = self.without_better < self.patience

    def state(self) -> dict[str, object]:
        names = ("encoder_steps", "aggressive", "best", "without_better")

        return {name: getattr(self, name) for name in names}
