"""Measures a training step, the importance-weighted likelihood and sampling on images.

The benchmark compares each computation with its plain form: slower code that follows the equations directly (see
`benchmarks.plain_images`).
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import torch
from torch import Tensor

from benchmarks import measure
from benchmarks.measure import Row, cpu
from benchmarks.plain_images import PlainPixelCNN, importance_weighted_nll
from duvae.config import ImageNetworks, Parts
from duvae.inference.model_files import Description
from duvae.metrics.encoding import evaluating
from duvae.networks.convolutions import BatchNorm
from duvae.networks.fast import sampling
from duvae.networks.fast.pixelcnn import FastPixelCNN
from duvae.posteriors import standard_normal_log_prob
from duvae.training.steps import JointLoop, Updates, optimizer
from duvae.vae import VAE

PAPER = ImageNetworks(
    size=28,
    channels=[64, 64, 64],
    features=512,
    kernels=[7, 7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3, 3],
    width=64,
    feature_maps=4,
    latent=32,
)
"""Sizes of the image networks in the paper."""
RELEASED = 100
"""Number of samples of z that the code released with the paper decodes at a time."""


@dataclass(frozen=True)
class ImageSize:
    """The sizes of the networks, of the data and of the measurements.

    Attributes:
        networks: Sizes of the networks.
        batch: Number of images of a training step.
        rounds: Number of times that a training step is measured, in its fast form and in its plain form.
        samples: Number K of importance samples for the likelihood of an image.
        images: Number of images whose likelihood is computed.
        sampled: Number of images to sample.
        passes: Number of network passes that are measured for the plain form of sampling. A whole image needs one pass
            per pixel; the benchmark computes the time of a whole image from the time of these passes.
    """

    networks: ImageNetworks = PAPER
    batch: int = 50
    rounds: int = 5
    samples: int = 500
    images: int = 2
    sampled: int = 64
    passes: int = 4


TINY = ImageSize(
    PAPER.model_copy(update={"size": 8, "channels": [4], "features": 8, "kernels": [3, 3, 3, 3], "width": 4}),
    batch=4,
    rounds=1,
    samples=10,
    sampled=3,
    passes=2,
)
"""The sizes with `--tiny`, which only tests the code of the benchmark."""


def description(networks: ImageNetworks) -> Description:
    """Returns the description of an image model of the system `vae`, from which `build` creates the model."""
    return Description("vae", {}, Parts(init="paper").model_dump(), networks.model_dump(), 2)


def bits(count: int, size: int) -> Tensor:
    """Draws random binary images, shape (count, 1, size, size).

    The share of pixels that are ink (1) is about the same as in OMNIGLOT.
    """
    return (torch.rand(count, 1, size, size) < 0.08).float()


def step_call(model: VAE, size: ImageSize) -> Callable[[], object]:
    """Returns a function that does one training step: forward pass, backward pass, clipping, Adam."""
    encoder, decoder = (
        optimizer(list(parameters), "adam", 0.001)
        for parameters in (model.inference_parameters(), model.generative_parameters())
    )
    x = bits(size.batch, size.networks.size)
    updates = Updates(model, encoder, decoder, 5.0, lambda: x)
    loop = JointLoop()

    return lambda: loop.step(updates, x, 1.0)


def train(size: ImageSize) -> None:
    """Does three training steps. `measure.peak` calls this function to measure the memory of the steps."""
    torch.manual_seed(1)
    step = step_call(description(size.networks).build()[0], size)
    for _ in range(3):
        step()


class ImageBench:
    """The measurements on images, with one method for each group of rows in the table of results."""

    def __init__(self, size: ImageSize) -> None:
        self.size = size

    @cached_property
    def model(self) -> VAE:
        """An image VAE with new weights. Its batch normalizations have the running statistics of one random batch."""
        torch.manual_seed(1)
        model, size = description(self.size.networks).build()[0], self.size
        norms = [part for part in model.modules() if isinstance(part, BatchNorm)]
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            model.loss(bits(size.batch, size.networks.size), 1.0)
        for norm in norms:
            norm.momentum = 0.1

        return model

    @property
    def decoder(self) -> FastPixelCNN:
        """The decoder of `model`, checked to be a `FastPixelCNN`."""
        assert isinstance(self.model.decoder, FastPixelCNN)

        return self.model.decoder

    def __call__(self) -> Iterator[Row]:
        """Measures and yields all rows on images.

        Each group of rows is measured in a new process, because memory left by earlier groups would change the times.
        """
        for group in (self.step, self.likelihood, self.sampling):
            yield from measure.alone(group)
        rate, memory = measure.rate(), measure.peak(train, self.size)
        note = "peak above the memory in use before"
        yield Row("step on images, memory", memory, "MiB", rate, must=6 * 1024, note=note)

    def step(self) -> Iterator[Row]:
        """Yields the rows on a training step.

        The fast form and the plain form run in turns, so that the load of the machine is about the same for both forms.
        """
        plain = VAE(
            copy.deepcopy(self.model.encoder),
            copy.deepcopy(self.model.head),
            PlainPixelCNN(self.decoder),  # type: ignore[arg-type]  # PlainPixelCNN has the methods that a step calls
            self.model.objective,
        )
        fast, slow = (step_call(model, self.size) for model in (copy.deepcopy(self.model), plain))
        for call in (fast, slow):
            call()
        rate = measure.rate()
        rounds = [(cpu(fast), cpu(slow)) for _ in range(self.size.rounds)]
        name, note = "step on images", f"batch {self.size.batch}, {len(self.size.networks.kernels)} layers"
        yield Row(name, median(first for first, _ in rounds), "s", rate, note=note)
        speed_up = median(second / first for first, second in rounds)
        note = f"over full kernels times masks, {median(second for _, second in rounds):.3g} s, side by side"
        yield Row(f"{name}, speed-up", speed_up, "x", rate, 1.4, 2, least=True, note=note)

    def likelihood(self) -> Iterator[Row]:
        """Yields the rows on the importance-weighted likelihood of images, in its fast form and in its plain form."""
        size = self.size
        x, samples = bits(size.images, size.networks.size), size.samples
        with evaluating(self.model):
            decoder, plain, posterior = self.decoder, PlainPixelCNN(self.decoder), self.model.posterior(x)
            z = posterior.rsample((samples,), torch.Generator().manual_seed(1))

            def fast() -> Tensor:
                weights = decoder.log_prob_samples(x, z) + standard_normal_log_prob(z) - posterior.log_prob(z)
                return -(weights.double().logsumexp(0))

            def slow() -> Tensor:
                return importance_weighted_nll(plain, x, posterior, samples, RELEASED, torch.Generator().manual_seed(1))

            part = z[:2]
            one_by_one = torch.stack([plain.log_prob(x, each) for each in part])
            difference = float((decoder.log_prob_samples(x, part) - one_by_one).abs().max())
            decoder.log_prob_samples(x, part)
            rate = measure.rate()
            rounds = [(cpu(fast), cpu(slow)) for _ in range(min(2, size.rounds))]
        name, note = "importance-weighted NLL of images", f"one image, K = {samples}"
        yield Row(name, median(first for first, _ in rounds) / size.images, "s", rate, note=note)
        speed_up = median(second / first for first, second in rounds)
        note = f"over image by image, {RELEASED} samples at a time"
        yield Row(f"{name}, speed-up", speed_up, "x", rate, 2, least=True, note=note)
        yield Row(
            "log p(image|z), difference from the plain form",
            difference,
            "nats",
            rate,
            must=5e-3,
            note="values of some hundreds",
        )

    def sampling(self) -> Iterator[Row]:
        """Yields the rows on sampling images pixel by pixel, in the fast form and in the plain form."""
        size, side = self.size, self.size.networks.size
        torch.manual_seed(1)
        z, uniforms = torch.randn(size.sampled, size.networks.latent), torch.rand(size.sampled, side, side)
        with evaluating(self.model):
            decoder, plain = self.decoder, PlainPixelCNN(self.decoder)
            network, maps = decoder.folded(), decoder.z_maps(z)
            rate, logits = measure.rate(), sampling.sample(network, maps, uniforms)[1].flatten()
            fast = median(cpu(lambda: sampling.sample(network, maps, uniforms)) for _ in range(min(3, size.rounds)))
            slow = cpu(lambda: plain.sample(z, uniforms, size.passes)) / size.passes * side**2
            again = sampling.sample(network, maps, uniforms)[1].flatten()
            few = plain.sample(z, uniforms, size.passes)[1].flatten(1)[:, : size.passes]
            difference = float((logits.view(len(z), -1)[:, : size.passes] - few).abs().max())
        name = f"{size.sampled} images sampled"
        yield Row(name, fast, "s", rate, note=f"{side} x {side} pixels")
        note = f"over one pass of the network per pixel ({size.passes} of {side**2} passes)"
        yield Row(f"{name}, speed-up", slow / fast, "x", rate, 50, 150, least=True, note=note)
        yield Row(
            f"{name}, difference of logits from a whole pass", difference, "nats", rate, must=1e-4, note="first pixels"
        )
        yield Row(f"{name}, difference from another run", float((logits - again).abs().max()), "nats", rate, must=0)
