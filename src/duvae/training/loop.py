"""The training loop: epochs, warm-up, validation, decay, best weights, and going on where it was stopped."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from duvae.config import Evaluation, Optimisation
from duvae.data.batches import Examples, batches
from duvae.data.store import Split
from duvae.errors import Interrupted, UserError
from duvae.metrics.encoding import encode
from duvae.metrics.geometry import measures
from duvae.objectives import Duration, Schedule
from duvae.training.checkpoints import (
    Checkpoint,
    Snapshot,
    generators,
    moments,
    restore_generators,
    restore_moments,
    under,
)
from duvae.training.steps import Loop, NotFinite, Updates, optimizer
from duvae.vae import VAE

Row = dict[str, float | int | None]


@runtime_checkable
class Progress(Protocol):
    """What may watch a training."""

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        """Batch `batch` of `batches` of an epoch is done; returns whether training should stop here."""

    def epoch(self, row: Row) -> None:
        """An epoch is done, with this row of the history."""


class Unwatched:
    """Watches nothing."""

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        """Looks away."""
        return False

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
    """Where a training stands between two steps; all of it is plain values.

    Attributes:
        epoch: Epochs that are done.
        batch: Batches of the present epoch that are done.
        step: Steps of all epochs that are done.
        sums: Total loss, reconstruction and KL of the present epoch's documents so far.
        encoder_steps: The loop's encoder steps when the present epoch began.
        stopped: Why training has ended, once it has.
    """

    learning_rate: float
    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: tuple[float, float, float] = (0.0, 0.0, 0.0)
    encoder_steps: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    without_better: int = 0
    decays: int = 0
    stopped: str = ""
    history: list[Row] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Training:
    """Trains a model as supplement E says.

    Args:
        model: What is trained, in place.
        schedule: Function from the training's length to the KL weight of each step, such as `System.schedule`.
        loop: From a batch to updates.
        train: Training examples.
        valid: Validation examples, looked at after each epoch.
        optimisation: Optimiser, epochs, warm-up, decay.
        evaluation: How the validation set is measured.
        seed: Of the batches' order and of the validation noise. With the model's first weights, torch's global
            generator and the number of threads it determines every bit of the result.
        device: Where to train.
        progress: What watches.
        checkpoint: Where the state is kept, and where training goes on from.
    """

    def __init__(
        self,
        model: VAE,
        schedule: Callable[[Duration], Schedule],
        loop: Loop,
        train: Split,
        valid: Split,
        optimisation: Optimisation,
        evaluation: Evaluation,
        seed: int,
        device: torch.device | None = None,
        progress: Progress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device)
        self.train, self.valid = train, valid
        self.examples = Examples(train, self.device)
        self.optimisation, self.evaluation, self.seed = optimisation, evaluation, seed
        self.progress: Progress = progress or Unwatched()
        self.checkpoint = checkpoint
        if optimisation.compiled:  # encoder and decoder, once a shape of batches
            for part, name in ((self.model.encoder, "forward"), (self.model.decoder, "log_prob")):
                setattr(part, name, torch.compile(getattr(part, name)))
        self.lengths = train.lengths
        self.steps_per_epoch = len(batches(self.lengths, optimisation.batch))
        steps = self.steps_per_epoch
        self.weight = schedule(Duration(optimisation.warmup * steps, steps, optimisation.epochs * steps))
        self.loop = loop
        self.state = State(optimisation.learning_rate)
        self.best_weights: dict[str, Tensor] = {}
        self.updates = self.new_updates()

    def new_updates(self) -> Updates:
        """Fresh optimisers at the present learning rate: momentum and moments are thrown away, as released."""
        encoder, decoder = (
            optimizer(list(parameters), self.optimisation.optimiser, self.state.learning_rate)
            for parameters in (self.model.inference_parameters(), self.model.generative_parameters())
        )

        return Updates(self.model, encoder, decoder, self.optimisation.clip, self.draw, self.optimisation.bfloat16)

    def batch(self, indices: Any) -> Tensor:
        """The training examples at `indices`, on the device."""
        return self.examples(indices)

    def draw(self) -> Tensor:
        """A random batch of this epoch's."""
        return self.batch(self.order[int(torch.randint(len(self.order), ()))])

    def run(self) -> Outcome:
        """Trains to the end, from the state that was kept if there is one; the model then has the best weights.

        Raises:
            UserError: Where a loss or a gradient is not finite, with epoch, batch and the first tensor that was not.
            Interrupted: Where the one who watches asked for it; the state is kept.
        """
        if self.checkpoint and (snapshot := self.checkpoint.latest()):
            self.restore(snapshot)
        state = self.state
        while state.epoch < self.optimisation.epochs and not state.stopped:
            if state.epoch >= self.optimisation.warmup:
                self.model.start()
            started = time.perf_counter()
            row = self.end(self.epoch())
            state.seconds.append(time.perf_counter() - started)
            self.progress.epoch(row)
            if self.checkpoint:
                self.checkpoint.keep(self.snapshot())
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)

        return Outcome(
            state.history,
            state.best_epoch or state.epoch,
            state.epoch > self.optimisation.warmup,
            state.stopped or f"after {state.epoch} epochs",
            state.seconds,
        )

    def epoch(self) -> float:
        """The batches of an epoch that are left; returns the last one's KL weight."""
        state, present = self.state, self.state.epoch + 1
        self.model.train()
        self.order = batches(self.lengths, self.optimisation.batch, (self.seed, present))
        sums = torch.tensor(state.sums, dtype=torch.float64, device=self.device)
        while state.batch < len(self.order):
            weight = self.weight(state.step)
            try:
                loss = self.loop.step(self.updates, self.batch(self.order[state.batch]), weight)
            except NotFinite as error:
                raise UserError(
                    f"training stopped at epoch {present}, batch {state.batch + 1} of {len(self.order)}: {error} is"
                    " not finite. Nothing was written. A smaller learning_rate or clip in params.yaml usually mends it."
                ) from error
            sums += torch.stack([part.sum() for part in loss])
            state.step += 1
            state.batch += 1
            stop = self.progress.step(present, state.batch, len(self.order))
            if self.checkpoint and (stop or self.checkpoint.due()):
                self.keep_sums(sums)
                self.checkpoint.keep(self.snapshot())
            if stop:
                raise Interrupted(
                    f"training stopped in epoch {present}, after batch {state.batch} of {len(self.order)}"
                )
        self.keep_sums(sums)

        return self.weight(state.step - 1)

    def keep_sums(self, sums: Tensor) -> None:
        """Makes the epoch's sums so far part of the state.

        Raises:
            UserError: Where they are not finite, which on a GPU nobody has looked at before.
        """
        total, reconstruction, kl = sums.tolist()
        if not math.isfinite(total):
            raise UserError(
                f"training stopped in epoch {self.state.epoch + 1}, by batch {self.state.batch}: the loss is {total}."
                " Nothing was written. A smaller learning_rate or clip in params.yaml usually mends it."
            )
        self.state.sums = (total, reconstruction, kl)

    def end(self, weight: float) -> Row:
        """A look at the validation set and what follows from it; the epoch's row of the history."""
        state = self.state
        state.epoch += 1
        total, reconstruction, kl = (value / len(self.train) for value in state.sums)
        encoded = encode(self.model, self.valid, self.device, seed=self.seed)
        found = measures(encoded, self.evaluation.active_threshold)
        row: Row = {
            "epoch": state.epoch,
            "kl_weight": weight,
            "learning_rate": state.learning_rate,
            "train_loss": total,
            "train_reconstruction": reconstruction,
            "train_kl": None if found["kl"] is None else kl,
            "valid_loss": float(np.mean(encoded.reconstruction + encoded.kl, dtype=np.float64)),
            "valid_reconstruction": float(np.mean(encoded.reconstruction, dtype=np.float64)),
            **{f"valid_{name}": value for name, value in found.items()},
            "steps": state.step,
            "encoder_steps": self.loop.encoder_steps - state.encoder_steps,
        }
        self.loop.epoch_ended(found["mi"])
        state.stopped = self.decide(row)
        state.history.append(row)
        state.batch, state.sums, state.encoder_steps = 0, (0.0, 0.0, 0.0), self.loop.encoder_steps

        return row

    def decide(self, row: Row) -> str:
        """Keeps the best weights, lowers the learning rate; returns why training ends, or nothing.

        Only epochs after the warm-up count, so that what starts with its end is part of the best weights.
        """
        state, decay = self.state, self.optimisation.decay
        loss = row["valid_loss"]
        if loss is None or not math.isfinite(loss):
            raise UserError(
                f"training stopped after epoch {state.epoch}: the validation loss is {loss}. Nothing was written."
                " A smaller learning_rate or clip in params.yaml usually mends it."
            )
        row["best"] = 0
        if state.epoch <= self.optimisation.warmup:
            return ""
        if loss < state.best_loss:
            state.best_loss, state.best_epoch, state.without_better = loss, state.epoch, 0
            self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}
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
        self.model.load_state_dict(self.best_weights)
        if decay.reset:
            self.updates = self.new_updates()
        for optimiser in (self.updates.encoder, self.updates.decoder):
            for group in optimiser.param_groups:
                group["lr"] = state.learning_rate

        return ""

    def snapshot(self) -> Snapshot:
        """The whole state: from it training goes on to the same bits."""
        return Snapshot(
            {
                **{f"model.{name}": value for name, value in self.model.state_dict().items()},
                **{f"best.{name}": value for name, value in self.best_weights.items()},
                **moments("encoder", self.updates.encoder),
                **moments("decoder", self.updates.decoder),
                **generators(self.device),
            },
            {"state": asdict(self.state), "loop": self.loop.state()},
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Goes back to a state that was kept."""
        tensors = {name: value.to(self.device) for name, value in under("model", snapshot.tensors).items()}
        self.model.load_state_dict(tensors)
        self.best_weights = {name: value.to(self.device) for name, value in under("best", snapshot.tensors).items()}
        state = snapshot.values["state"]
        self.state = State(**{**state, "sums": tuple(state["sums"])})  # JSON has no tuples
        self.loop.restore(snapshot.values["loop"])
        self.updates = self.new_updates()
        restore_moments("encoder", self.updates.encoder, snapshot.tensors)
        restore_moments("decoder", self.updates.decoder, snapshot.tensors)
        restore_generators(self.device, snapshot.tensors)
