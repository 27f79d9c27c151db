"""Plain forms of computations for which the library has faster forms.

A plain form is slower code that follows the equations directly. The benchmarks report the ratio between the times of
the plain form and the fast form, and the difference between their results.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import dropout

from duvae.data.splits import Array, Documents
from duvae.metrics.encoding import evaluating
from duvae.networks.lstm import LSTMDecoder
from duvae.objectives import Loss
from duvae.posteriors import standard_normal_log_prob
from duvae.training.steps import Loop, Updates
from duvae.vae import VAE


def decoder(model: VAE) -> LSTMDecoder:
    """The decoder of a text model, checked to be an `LSTMDecoder`. This class has the method `log_prob_plain`."""
    assert isinstance(model.decoder, LSTMDecoder)

    return model.decoder


def whole_decoder(
    form: LSTMDecoder, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]
) -> Float[Tensor, "batch"]:
    """Computes log p(x|z) in nats without dropout.

    The function runs PyTorch's LSTM, linear map and cross entropy over whole sentences.
    """
    words, cell = form.embedding(x[:, :-1]), form.initial(z)[None]
    outputs, _ = form.lstm(torch.cat([words, z[:, None].expand(-1, words.shape[1], -1)], -1), (cell.tanh(), cell))

    return form.output.plain(outputs, x[:, 1:]).sum(-1)


def training_log_prob(
    form: LSTMDecoder, x: Int[Tensor, "batch length"], z: Float[Tensor, "batch latent"]
) -> Float[Tensor, "batch"]:
    """Computes log p(x|z) in nats during training, with PyTorch's dropout, LSTM, linear map and cross entropy."""
    words, cell = dropout(form.embedding(x[:, :-1]), form.dropout_in), form.initial(z)[None]
    outputs, _ = form.lstm(torch.cat([words, z[:, None].expand(-1, words.shape[1], -1)], -1), (cell.tanh(), cell))

    return form.output.plain(dropout(outputs, form.dropout_out), x[:, 1:]).sum(-1)


class PlainLoop(Loop):
    """Trains encoder and decoder together with PyTorch's own dropout, cross entropy, clipping and SGD.

    Args:
        model: The model to train. The class replaces the decoder's method `log_prob` by `training_log_prob`.
        learning_rate: The learning rate of SGD.
    """

    def __init__(self, model: VAE, learning_rate: float) -> None:
        model.decoder.log_prob = partial(training_log_prob, decoder(model))  # type: ignore[method-assign]
        self.optimiser = torch.optim.SGD(model.parameters(), learning_rate)

    def step(self, updates: Updates, x: Tensor, weight: float) -> Loss:
        self.optimiser.zero_grad()
        loss = updates.model.loss(x, weight)
        loss.total.mean().backward()
        nn.utils.clip_grad_norm_(updates.model.parameters(), updates.clip)
        self.optimiser.step()
        updates.model.after_step()

        return loss


def importance_weighted_nll(
    model: VAE,
    documents: Documents,
    samples: int,
    seed: int,
    log_prob: Callable[[LSTMDecoder, Tensor, Tensor], Tensor] = LSTMDecoder.log_prob_plain,
    at_once: int | None = None,
) -> Array:
    r"""Computes $-\log \frac1K \sum_k p(x, z_k) / q(z_k|x)$ for one sentence at a time, with all logits in memory.

    K is the number of samples z_k, which are drawn from the posterior q(z|x).

    Args:
        model: The trained VAE.
        documents: The sentences.
        samples: Number K of samples of z for each sentence.
        seed: Seed of the samples.
        log_prob: Function that returns log p(x|z) for a decoder, x and z. With the default function, the decoder reads
            x word by word.
        at_once: Number of samples to decode at a time; None: all samples.

    Returns:
        The NLL of each sentence in nats, shape (documents,).
    """
    generator = torch.Generator().manual_seed(seed)
    result = np.empty(len(documents))
    with evaluating(model):
        for n in range(len(documents)):
            x = torch.from_numpy(documents[n]).long()[None]
            posterior = model.posterior(x)
            z = posterior.rsample((samples,), generator)  # (samples, 1, latent)
            parts = z[:, 0].split(at_once or samples)
            likelihood = torch.cat([log_prob(decoder(model), x.expand(len(part), -1), part) for part in parts])
            weights = likelihood + (standard_normal_log_prob(z) - posterior.log_prob(z))[:, 0]
            result[n] = math.log(samples) - float(weights.double().logsumexp(0))

    return result


def mutual_information(mean: Array, variance: Array, z: Array, rows: int = 100) -> float:
    r"""Computes the mutual information of x and z by broadcasting $(z - \mu)^2 / \sigma^2$ over samples and posteriors.

    $$\frac1N \sum_i \Big[\log q(z_i|x_i) - \log \frac1N \sum_j q(z_i|x_j)\Big]$$

    The posteriors q are Gaussians with mean mu and variance sigma^2.

    Args:
        mean: Posterior means, shape (N, latent).
        variance: Posterior variances, shape (N, latent).
        z: One sample of each posterior, shape (N, latent).
        rows: Number of samples to process at a time. Each sample needs memory for N x latent numbers.

    Returns:
        The mutual information in nats.
    """
    mu, var, sample = (torch.from_numpy(np.asarray(a)) for a in (mean, variance, z))
    normalizer = var.log().sum(1)  # without the term log(2 pi), which cancels
    own = -0.5 * (((sample - mu) ** 2 / var).sum(1) + normalizer)
    aggregate = [
        (-0.5 * (((part[:, None] - mu) ** 2 / var).sum(2) + normalizer)).logsumexp(1) for part in sample.split(rows)
    ]

    return float((own - torch.cat(aggregate)).double().mean()) + math.log(len(mu))
