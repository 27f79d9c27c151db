"""Estimates how long a training takes, from the first steps of the training itself."""

import contextlib
import time
from statistics import mean

import numpy as np
import torch

from duvae.config import Params
from duvae.data.splits import Split
from duvae.errors import Interrupted
from duvae.inference import model_files
from duvae.training.loop import Training
from duvae.training.state import Row

SECONDS, STEPS, FIRST = 5.0, 40, 3
"""The measurement ends after this time in seconds or after this number of steps. The first steps do not count, because
they also prepare the libraries."""


class _Clock:
    """Measures the time of each step, and stops the training when it has enough of them."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.times: list[float] = []

    def step(self, _epoch: int, batch: int, batches: int) -> bool:
        self.times.append(time.perf_counter())
        enough = len(self.times) > FIRST and self.times[-1] - self.started > SECONDS

        return enough or batch == batches or len(self.times) == STEPS

    def epoch(self, row: Row) -> None:
        pass

    def seconds(self) -> float:
        """Mean time of a step in seconds; with few steps, all of them count."""
        steps = np.diff([self.started, *self.times])

        return mean(float(step) for step in (steps[FIRST:] if len(steps) > FIRST else steps))


def seconds_per_epoch(params: Params, dataset: str, setting: str, train: Split, words: int) -> float:
    """Trains for some seconds, and estimates the time of an epoch without its measures on the validation examples.

    Args:
        params: All parameters of the data set's project.
        dataset: Name of the data set.
        setting: Name of the setting.
        train: Training examples: documents, or images of grey values.
        words: Size of the vocabulary, with the special words; for images, the number of pixel values.

    Returns:
        Estimated time in seconds. An aggressive training (Agg-VAE) takes longer in its first epochs.
    """
    torch.set_num_threads(params.threads)
    torch.manual_seed(0)
    entry = params.setting(setting)
    description = model_files.Description(
        entry.system,
        params.hyperparameters(setting, dataset).model_dump(),
        entry.parts.model_dump(),
        params.dataset(dataset).networks.model_dump(),
        words,
    )
    model, system = description.build()
    clock = _Clock()
    training = Training(
        model,
        system.schedule,
        system.loop(),
        train,
        train.only(np.arange(1)),
        params.optimisation(setting, dataset),
        params.evaluation,
        0,
        model_files.device(),
        clock,
    )
    with contextlib.suppress(Interrupted):
        training.run()

    return clock.seconds() * training.steps_per_epoch
