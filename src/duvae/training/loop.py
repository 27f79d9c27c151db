"""The training loop: epochs, warm-up, validation, decay, best weights."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from duvae.config import Evaluation, Optimisation
from duvae.data.batches import batches
from duvae.data.store import Documents
from duvae.errors import UserError
from duvae.metrics.encoding import encode
from duvae.metrics.geometry import measures
from duvae.objectives import Warmup
from duvae.training.steps import Loop, NotFinite, Updates, optimizer
from duvae.vae import VAE

Row = dict[str, float | int | None]


@runtime_checkable
class Progress(Protocol):
    """What may watch a training."""

    def step(self, epoch: int, batch: int, batches: int) -> None:
        """Batch `batch` of `batches` of an epoch is done."""

    def epoch(self, row: Row) -> None:
        """An epoch is done, with this row of the history."""


class Unwatched:
    """Watches nothing."""

    def step(self, epoch: int, batch: int, batches: int) -> None:
        """Looks away."""

    def epoch(self, row: Row) -> None:
        """Looks away."""


@dataclass
class Outcome:
    """What a training ended with.

    Attributes:
        history: A row an epoch.
        best_epoch: The epoch whose weights the model has now.
        warmup_ended: Whether the KL weight had reached 1; if not, the weights are the last epoch's.
        stopped: Why it ended.
        seconds: Wall time of each epoch.
    """

    history: list[Row]
    best_epoch: int
    warmup_ended: bool
    stopped: str
    seconds: list[float]


@dataclass
class State:
    """Where a training stands between two steps."""

    epoch: int = 0
    step: int = 0
    learning_rate: float = 0.0
    best_loss: float = float("inf")
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    without_better: int = 0
    decays: int = 0
    history: list[Row] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Training:
    """Trains a model as supplement E says.

    Args:
        model: What is trained, in place.
        schedule: From the steps of the warm-up to the KL weight of a step.
        loop: From a batch to updates.
        train: Training documents.
        valid: Validation documents, looked at after each epoch.
        optimisation: Optimiser, epochs, warm-up, decay.
        evaluation: How the validation set is measured.
        seed: Determines, with the threads, every bit of the result.
        device: Where to train.
        progress: What watches.
    """

    def __init__(
        self,
        model: VAE,
        schedule: Callable[[int], Warmup],
        loop: Loop,
        train: Documents,
        valid: Documents,
        optimisation: Optimisation,
        evaluation: Evaluation,
        seed: int,
        device: torch.device | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device)
        self.train, self.valid = train, valid
        self.optimisation, self.evaluation, self.seed = optimisation, evaluation, seed
        self.progress: Progress = progress or Unwatched()
        self.lengths = train.lengths
        self.steps_per_epoch = len(batches(self.lengths, optimisation.batch))
        self.weight = schedule(optimisation.warmup * self.steps_per_epoch)
        self.loop = loop
        self.state = State(learning_rate=optimisation.learning_rate)
        self.updates = self.new_updates()

    def new_updates(self) -> Updates:
        """Fresh optimisers at the present learning rate: momentum and moments are thrown away, as released."""
        encoder, decoder = (
            optimizer(list(parameters), self.optimisation.optimiser, self.state.learning_rate)
            for parameters in (self.model.inference_parameters(), self.model.generative_parameters())
        )

        return Updates(self.model, encoder, decoder, self.optimisation.clip, self.draw)

    def batch(self, indices: Any) -> Tensor:
        """The training documents at `indices`, on the device."""
        return torch.from_numpy(self.train.batch(indices)).long().to(self.device, non_blocking=True)

    def draw(self) -> Tensor:
        """A random batch of this epoch's."""
        return self.batch(self.order[int(torch.randint(len(self.order), ()))])

    def run(self) -> Outcome:
        """Trains to the end; the model then has the best weights.

        Raises:
            UserError: Where a loss or a gradient is not finite, with epoch, batch and the first tensor that was not.
        """
        state, warmup, stopped = self.state, self.optimisation.warmup, ""
        while state.epoch < self.optimisation.epochs and not stopped:
            if state.epoch == warmup:
                self.model.start()
            started = time.perf_counter()
            row = self.epoch()
            stopped = self.decide(row)
            state.history.append(row)
            state.seconds.append(time.perf_counter() - started)
            self.progress.epoch(row)
        if state.best_weights:
            self.model.load_state_dict(state.best_weights)

        return Outcome(
            state.history,
            state.best_epoch or state.epoch,
            state.epoch > warmup,
            stopped or f"after {state.epoch} epochs",
            state.seconds,
        )

    def epoch(self) -> Row:
        """One epoch of training and a look at the validation set."""
        state = self.state
        state.epoch += 1
        self.model.train()
        self.order = batches(self.lengths, self.optimisation.batch, (self.seed, state.epoch))
        before = self.loop.encoder_steps
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for number, indices in enumerate(self.order, 1):
            weight = self.weight(state.step)
            try:
                loss = self.loop.step(self.updates, self.batch(indices), weight)
            except NotFinite as error:
                raise UserError(
                    f"training stopped at epoch {state.epoch}, batch {number} of {len(self.order)}: {error} is not"
                    " finite. Nothing was written. A smaller learning_rate or clip in params.yaml usually mends it."
                ) from error
            sums += torch.stack([part.sum() for part in loss])
            state.step += 1
            self.progress.step(state.epoch, number, len(self.order))
        total, reconstruction, kl = (sums / len(self.train)).tolist()
        encoded = encode(self.model, self.valid, self.device, seed=self.seed)
        found = measures(encoded, self.evaluation.active_threshold)
        density = encoded.variance is not None
        row: Row = {
            "epoch": state.epoch,
            "kl_weight": weight,
            "learning_rate": state.learning_rate,
            "train_loss": total,
            "train_reconstruction": reconstruction,
            "train_kl": kl if density else None,
            "valid_loss": float(np.mean(encoded.reconstruction + encoded.kl)),
            "valid_reconstruction": float(np.mean(encoded.reconstruction)),
            **{f"valid_{name}": value for name, value in found.items()},
            "steps": state.step,
            "encoder_steps": self.loop.encoder_steps - before,
        }
        self.loop.epoch_ended(found["mi"])

        return row

    def decide(self, row: Row) -> str:
        """Keeps the best weights, lowers the learning rate; returns why training ends, or nothing.

        Only epochs after the warm-up count, so that what starts with its end is part of the best weights.
        """
        state, decay = self.state, self.optimisation.decay
        loss = row["valid_loss"]
        assert isinstance(loss, float)
        row["best"] = 0
        if state.epoch <= self.optimisation.warmup:
            return ""
        if loss < state.best_loss:
            state.best_loss, state.best_epoch, state.without_better = loss, state.epoch, 0
            state.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            row["best"] = 1
        else:
            state.without_better += 1
        if state.without_better < decay.patience or state.epoch < decay.not_before:
            return ""
        state.decays += 1
        state.without_better = 0
        if state.decays == decay.at_most:
            return f"at the {decay.at_most}th decay, in epoch {state.epoch}"
        state.learning_rate *= decay.factor
        self.model.load_state_dict(state.best_weights)
        self.updates = self.new_updates()

        return ""
