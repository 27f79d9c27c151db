"""Trains a model over epochs of batches, and measures it on validation examples after each epoch.

At first the KL weight rises; these epochs are the warm-up. Later the learning rate decays when the validation loss no
longer falls. At the end the model gets the weights of its best epoch. A training that was interrupted can resume from
its saved state.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duvae import devices
from duvae.config import Evaluation, Optimisation, Precision
from duvae.data.batches import Examples, batches
from duvae.data.splits import Split
from duvae.errors import Interrupted, UserError
from duvae.metrics.encoding import Encoded, encode
from duvae.metrics.geometry import information_in_batches, measures
from duvae.objectives import Duration, Loss, Schedule
from duvae.training.checkpoints import (
    Checkpoint,
    Snapshot,
    generator_states,
    moments,
    restore_generator_states,
    restore_moments,
    with_prefix,
)
from duvae.training.compilation import compile_loss
from duvae.training.decay import decay_rule
from duvae.training.state import NoProgress, Progress, Row, State, TrainingResult
from duvae.training.steps import Loop, NotFinite, Updates, optimizer
from duvae.vae import VAE


class Training:
    """Trains a model as supplement E of the paper describes.

    Args:
        model: Model to train. The training changes its weights in place.
        schedule: Function that receives the length of the training and returns the schedule: the function from the step
            to the KL weight. An example is the method `schedule` of `duvae.systems.System`.
        loop: Rule that turns each batch into updates of the parameters (see `Loop`).
        train: Training examples.
        valid: Validation examples, on which the model is measured after each epoch.
        optimisation: Options of the training, such as the optimiser, the learning rate and its decay, the batch size,
            and the numbers of epochs of the training and of the warm-up.
        evaluation: Options of the measures on the validation examples.
        seed: Seed of the order of batches, and of the samples of z on the validation examples. For given arguments, the
            seed, the state of PyTorch's global generator and the number of threads determine every bit of the result.
        device: Device to train on; None: the CPU.
        progress: Object that receives the position of the training and may stop the training; None: no such object.
        checkpoint: File in which the training saves its state and from which it resumes; None: no state is saved.
        precision: Precision of products on a GPU, in training and on the validation examples; None: the default.

    Raises:
        UserError: If the options of `optimisation` do not go together. Also if
            `optimisation.compiled` is true but the training cannot be compiled (see `compile_loss`).
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
        precision: Precision | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device)
        self.train, self.valid = train, valid
        self.examples = Examples(train, self.device)
        self.optimisation, self.evaluation, self.seed = optimisation, evaluation, seed
        self.progress: Progress = progress or NoProgress()
        self.checkpoint, self.precision = checkpoint, precision or Precision()
        self.lengths = train.lengths
        cut = batches(self.lengths, optimisation.batch)
        self.steps_per_epoch = len(cut)
        steps = self.steps_per_epoch
        self.uncounted = optimisation.warmup if self.model.waits else 0
        self.weight = schedule(Duration(optimisation.warmup * steps, steps, optimisation.epochs * steps))
        self.loop = loop
        self.loss: Callable[[Tensor, float], Loss] = model.loss
        if optimisation.compiled:
            if optimisation.bfloat16 and self.device.type == "cpu":
                raise UserError(
                    "params.yaml: optimisation.compiled and optimisation.bfloat16 are both true; a CPU can use only one"
                    " of them. Set one to false."
                )
            shapes = [(len(indices), int(self.lengths[indices[0]])) for indices in cut]
            self.loss = compile_loss(self.model, self.device, shapes)
        self.rule = decay_rule(optimisation.decay)
        self.state = State(optimisation.learning_rate)
        self.best_weights: dict[str, Tensor] = {}
        self.updates = self.new_updates()

    def new_updates(self) -> Updates:
        """Builds new optimisers with the current learning rate.

        The new optimisers have no moments yet. The code that the authors of the paper released also starts new
        optimisers when the learning rate decays.
        """
        encoder, decoder = (
            optimizer(list(parameters), self.optimisation.optimiser, self.state.learning_rate)
            for parameters in (self.model.inference_parameters(), self.model.generative_parameters())
        )

        optimisation = self.optimisation

        return Updates(self.model, encoder, decoder, optimisation.clip, self.draw, optimisation.bfloat16, self.loss)

    def batch(self, indices: Any) -> Tensor:
        """Returns a batch of training examples on the device.

        Args:
            indices: Indices of the examples, an integer array of shape (batch,).
        """
        return self.examples(indices)

    def draw(self) -> Tensor:
        """Returns a random batch among the training batches of the current epoch."""
        return self.batch(self.order[int(torch.randint(len(self.order), ()))])

    def run(self) -> TrainingResult:
        """Trains to the end. If `checkpoint` has a saved state, the training continues from this state.

        Afterwards the model has its best weights: those of the epoch with the lowest validation loss. If parts of the
        model start only after the warm-up, the epochs of the warm-up do not count. If then no epoch followed the
        warm-up, the model has the weights of the last epoch.

        Raises:
            UserError: If a loss or a gradient is not finite, or if the state cannot be saved. If a loss or a gradient
                is not finite, the message names the epoch and, if known, the batch and the tensor.
            Interrupted: If `progress` asked for a stop. If there is a `checkpoint`, the state has been saved.
        """
        if self.checkpoint and (snapshot := self.checkpoint.load()):
            self.restore(snapshot)
        state = self.state
        while state.epoch < self.optimisation.epochs and not state.stopped:
            if state.epoch >= self.optimisation.warmup:
                self.model.start()
            started = time.perf_counter()
            devices.set_products(self.device, self.precision.training)
            weight = self.train_epoch()
            devices.set_products(self.device, self.precision.evaluation)
            row = self.finish_epoch(weight)
            state.seconds.append(time.perf_counter() - started)
            self.progress.epoch(row)
            if self.checkpoint:
                self.checkpoint.save(self.snapshot())
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)

        return TrainingResult(
            state.history,
            state.best_epoch or state.epoch,
            state.epoch > self.optimisation.warmup,
            state.stopped or f"after {state.epoch} epochs",
            state.decays,
            state.ending,
            state.seconds,
        )

    def train_epoch(self) -> float:
        """Trains on the remaining batches of the current epoch.

        These are all batches of the epoch, unless the training resumed in the middle of the epoch.

        Returns:
            KL weight of the last step of the epoch.
        """
        state, epoch = self.state, self.state.epoch + 1
        self.model.train()
        self.order = batches(self.lengths, self.optimisation.batch, (self.seed, epoch))
        sums = torch.tensor(state.sums, dtype=torch.float64, device=self.device)
        while state.batch < len(self.order):
            weight = self.weight(state.step)
            try:
                loss = self.loop.step(self.updates, self.batch(self.order[state.batch]), weight)
            except NotFinite as error:
                raise UserError(
                    f"training stopped at epoch {epoch}, batch {state.batch + 1} of {len(self.order)}: {error} is not"
                    " finite. No model was written. Try a smaller learning_rate or clip in params.yaml."
                ) from error
            sums += torch.stack([part.sum() for part in loss])
            state.step += 1
            state.batch += 1
            stop = self.progress.step(epoch, state.batch, len(self.order))
            if self.checkpoint and (stop or self.checkpoint.due()):
                self.save_sums(sums)
                self.checkpoint.save(self.snapshot())
            if stop:
                raise Interrupted(f"training stopped in epoch {epoch}, after batch {state.batch} of {len(self.order)}")
        self.save_sums(sums)

        return self.weight(state.step - 1)

    def save_sums(self, sums: Tensor) -> None:
        """Writes the sums of the losses of the current epoch into the state.

        Args:
            sums: Sums of total loss, reconstruction and KL over the examples so far, in nats, shape (3,).

        Raises:
            UserError: If the total loss is not finite, or if a gradient was not. The check is needed here because steps
                on a GPU do not check their gradients. Every state is saved after this check.
        """
        failed = self.updates.failed
        values = sums if failed is None else torch.cat([sums, failed.double()[None]])  # one copy from the GPU, not two
        total, reconstruction, kl, *skipped = values.tolist()
        if not math.isfinite(total) or any(skipped):
            reason = "a gradient is not finite" if math.isfinite(total) else f"the loss is {total}"
            raise UserError(
                f"training stopped in epoch {self.state.epoch + 1}, by batch {self.state.batch}: {reason}."
                " No model was written. Try a smaller learning_rate or clip in params.yaml."
            )
        self.state.sums = (total, reconstruction, kl)

    def finish_epoch(self, weight: float) -> Row:
        """Measures the model on the validation examples, and updates the state for the next epoch.

        Args:
            weight: KL weight of the last step of the epoch.

        Returns:
            Row of the training history for this epoch.
        """
        state = self.state
        state.epoch += 1
        total, reconstruction, kl = (value / len(self.train) for value in state.sums)
        encoded = encode(self.model, self.valid, self.device, seed=self.seed)
        measured = measures(encoded, self.evaluation.active_threshold)
        row: Row = {
            "epoch": state.epoch,
            "kl_weight": weight,
            "learning_rate": state.learning_rate,
            "train_loss": total,
            "train_reconstruction": reconstruction,
            "train_kl": None if measured["kl"] is None else kl,
            "valid_loss": float(np.mean(encoded.reconstruction + encoded.kl, dtype=np.float64)),
            "valid_reconstruction": float(np.mean(encoded.reconstruction, dtype=np.float64)),
            **{f"valid_{name}": value for name, value in measured.items()},
            "steps": state.step,
            "encoder_steps": self.loop.encoder_steps - state.encoder_steps,
        }
        self.loop.epoch_ended(self.information_in_batches(encoded) if self.loop.reads_information else None)
        state.stopped = self.decide(row)
        state.history.append(row)
        state.batch, state.sums, state.encoder_steps = 0, (0.0, 0.0, 0.0), self.loop.encoder_steps

        return row

    def information_in_batches(self, encoded: Encoded) -> float | None:
        """Estimates the mutual information of x and z within random batches of validation examples, in nats.

        The batches have the size of the training batches, and are the same after each epoch.

        Args:
            encoded: Encoded validation examples.

        Returns:
            The mutual information; None if it is unknown for the posterior.
        """
        if "mi" not in encoded.measured or encoded.variance is None:
            return None
        cut = batches(self.valid.lengths, self.optimisation.batch, (self.seed, 0))

        return information_in_batches(encoded.mean, encoded.variance, encoded.z, cut)

    def decide(self, row: Row) -> str:
        """Keeps the weights if they are the best so far, and lowers the learning rate if the rule of the decay says so.

        The rule reads the validation loss (see `duvae.training.decay`). If regularizers of the model start only after
        the warm-up, losses before and after this start are not comparable, so only epochs after the warm-up count. The
        weights that are kept, and that a decay may give back, are always those of the best epoch of all.

        Args:
            row: Row of the training history for the epoch that has just ended. This method sets the value `best` of the
                row: 1 if the weights are the best so far, otherwise 0.

        Returns:
            Reason why the training ends; empty if it continues.

        Raises:
            UserError: If the validation loss is not finite.
        """
        state, rule = self.state, self.rule
        loss = row["valid_loss"]
        if loss is None or not math.isfinite(loss):
            raise UserError(
                f"training stopped after epoch {state.epoch}: the validation loss is {loss}. No model was written."
                " Try a smaller learning_rate or clip in params.yaml."
            )
        row["best"] = 0
        if state.epoch <= self.uncounted:
            return ""
        best = loss < state.best_loss
        if best:
            state.best_loss, state.best_epoch = loss, state.epoch
            self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}
            row["best"] = 1
        if not rule.due(state, loss, best):
            return ""
        state.decays += 1
        rate = state.learning_rate * self.optimisation.decay.factor
        if reason := rule.end(state, rate):
            state.ending = rule.ending
            return reason
        state.learning_rate = rate
        if rule.restores:
            self.model.load_state_dict(self.best_weights)
        if rule.resets:
            self.updates = self.new_updates()
        for optimiser in (self.updates.encoder, self.updates.decoder):
            for group in optimiser.param_groups:
                group["lr"] = state.learning_rate

        return ""

    def snapshot(self) -> Snapshot:
        """Returns the whole state of the training.

        A training that resumes from this state computes the same bits as a training that was not interrupted.
        """
        return Snapshot(
            {
                **{f"model.{name}": value for name, value in self.model.state_dict().items()},
                **{f"best.{name}": value for name, value in self.best_weights.items()},
                **moments("encoder", self.updates.encoder),
                **moments("decoder", self.updates.decoder),
                **generator_states(self.device),
            },
            {"state": asdict(self.state), "loop": self.loop.state()},
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Sets the model, the optimisers, the random generators and all other values to those of a saved state.

        Args:
            snapshot: State of the training, as a checkpoint holds it.
        """
        tensors = {name: value.to(self.device) for name, value in with_prefix("model", snapshot.tensors).items()}
        self.model.load_state_dict(tensors)
        self.best_weights = {
            name: value.to(self.device) for name, value in with_prefix("best", snapshot.tensors).items()
        }
        state = snapshot.values["state"]
        self.state = State(**{**state, "sums": tuple(state["sums"])})  # JSON has turned the tuple into a list
        self.loop.restore(snapshot.values["loop"])
        self.updates = self.new_updates()
        restore_moments("encoder", self.updates.encoder, snapshot.tensors)
        restore_moments("decoder", self.updates.decoder, snapshot.tensors)
        restore_generator_states(self.device, snapshot.tensors)
