"""Defines two refinements of the encoder's q(z|x): none (amortized inference), and gradient steps on its parameters."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from duvae.networks.bodies import Decoder
from duvae.posteriors import DiagonalGaussian, Posterior, noise_like


class Refinement(nn.Module, ABC):
    """A map from the encoder's q(z|x) to the q(z|x) that the model uses."""

    @abstractmethod
    def forward(self, posterior: Posterior, x: Tensor, decoder: Decoder, weight: float | Tensor) -> Posterior:
        """Refines the posterior of each x.

        Args:
            posterior: The encoder's q(z|x), for a batch.
            x: The batch: word ids of shape (batch, length), or images of shape (batch, 1, height, width).
            decoder: The decoder, which computes p(x|z).
            weight: The weight of the KL term in training, a number or a tensor of shape ().

        Returns:
            The q(z|x) that the model uses, for the same batch.
        """


class Amortized(Refinement):
    """No refinement: the model uses the encoder's q(z|x)."""

    def forward(self, posterior: Posterior, x: Tensor, decoder: Decoder, weight: float | Tensor) -> Posterior:
        return posterior


class SVI(Refinement):
    r"""Stochastic variational inference that starts at the encoder's output (Kim et al. 2018, Algorithm 1).

    Let $\lambda = (\mu, \log \delta^2)$ be the parameters of q(z|x), and w the weight of the KL term. Each step draws
    a new sample $z = \mu + \delta \epsilon$, and computes

    $$v \leftarrow m v - c_\tau(\nabla_\lambda [-\log p(x|z) + w \, D_{KL}[q_\lambda(z) \| p(z)]]), \quad
      \lambda \leftarrow \lambda + \frac{\eta}{B} v,$$

    where v is the velocity, which starts at 0, m is the momentum, and $\eta$ is the learning rate. The function
    $c_\tau$ scales the gradients with respect to $\mu$ and $\log \delta^2$, each to a norm of at most $\tau$.
    Each x has its own $\lambda$ and v. The factor 1 / B is there because the code of Kim et al. follows the gradient of
    the mean loss over a batch of B examples.

    The refined parameters can be differentiated with respect to the encoder's output and the decoder's parameters. The
    derivatives go through all steps, with exact second derivatives of the loss. At each step the backward pass applies
    $c_\tau$ to the gradient of the training loss of each x with respect to $\mu$ and $\log \delta^2$. Without this
    clipping the gradient would grow from step to step. The clipping assumes that training minimises the mean loss of
    the batch. The backward pass also clips what each step contributes to the gradient of the decoder's parameters: all
    these parameters together, at a norm of `decoder_clip`, as in the code of Kim et al. (2018).

    In training, PyTorch's global generator draws $\epsilon$ and the decoder's dropout masks, and the caller sets w. In
    evaluation w = 1, there is no dropout, and $\epsilon$ is a function of x. So in evaluation the posterior of an x
    does not depend on the other examples of the batch.

    Args:
        steps: Number of steps.
        learning_rate: Learning rate eta.
        momentum: Momentum m.
        clip: Largest norm tau of the gradient with respect to mu, and of the gradient with respect to log delta^2.
        batch: Batch size B in the code of Kim et al.; the learning rate is divided by it.
        decoder_clip: Largest norm of the contribution of each step to the gradient of the decoder's parameters.
    """

    def __init__(
        self, steps: int, learning_rate: float, momentum: float, clip: float, batch: int, decoder_clip: float = 5.0
    ) -> None:
        super().__init__()
        self.steps, self.rate, self.momentum, self.clip = steps, learning_rate / batch, momentum, clip
        self.decoder_clip = decoder_clip

    def forward(self, posterior: Posterior, x: Tensor, decoder: Decoder, weight: float | Tensor) -> DiagonalGaussian:
        if not isinstance(posterior, DiagonalGaussian):
            raise TypeError(f"expected a diagonal Gaussian to refine, got a {type(posterior).__name__}")
        weight = weight if self.training else 1.0
        refine = self.refine
        if torch.compiler.is_compiling():  # torch.compile cannot compile the hooks and the hand-written gradients
            refine = torch.compiler.disable(refine)
        # Half precision is off: its rounding errors would grow from step to step, and even more in the backward pass.
        with torch.autocast(x.device.type, enabled=False):
            return refine(posterior, x, decoder, weight)

    def refine(
        self, posterior: DiagonalGaussian, x: Tensor, decoder: Decoder, weight: float | Tensor
    ) -> DiagonalGaussian:
        """Computes all steps, in the precision of the encoder's output, but at least in single precision."""
        parameters = torch.stack([posterior.mean, posterior.variance.log()], 1)  # lambda
        parameters = parameters.float() if parameters.dtype.itemsize < 4 else parameters
        samples = (self.steps,)
        noise = (
            noise_like(parameters[:, 0], samples) if self.training else noise_from_data(x, samples, parameters[:, 0])
        )
        slope = decoder.slope(x)

        def step(parameters: Tensor, velocity: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_variance = parameters.unbind(1)
            shift = (0.5 * log_variance).exp() * epsilon
            log_likelihood_slope = slope(mean + shift)
            kl_slope = torch.stack([mean, 0.5 * (log_variance.exp() - 1)], 1)
            ascent = torch.stack([log_likelihood_slope, 0.5 * log_likelihood_slope * shift], 1) - weight * kl_slope
            velocity = self.momentum * velocity + clip_norm(ascent, self.clip)

            return torch.add(parameters, velocity, alpha=self.rate), velocity

        if torch.is_grad_enabled():
            # Training minimises the mean of the losses of len(x) examples. So the gradient of the loss of one example,
            # and the largest norm of that gradient, are divided by len(x).
            chain = StepChain(step, list(noise), self.clip / len(x), self.decoder_clip)
            theta = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
            parameters = take_steps(chain, parameters, *theta)
        else:
            velocity = torch.zeros_like(parameters)
            for epsilon in noise:
                parameters, velocity = step(parameters, velocity, epsilon)
        mean, log_variance = parameters.unbind(1)

        return DiagonalGaussian(mean, log_variance.exp())


class StepChain:
    """The gradient steps of one batch, and the graph of each step for the backward pass.

    Args:
        step: Function from lambda, the velocity and the noise of a step to the next lambda and velocity. Both have the
            shape (batch, 2, latent).
        noise: Noise of each step, each of shape (batch, latent).
        clip: Largest norm of the gradient of one example with respect to mu, and to log delta^2, at each step.
        decoder_clip: Largest norm of the contribution of each step to the gradient of the decoder's parameters.
    """

    def __init__(
        self,
        step: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
        noise: Sequence[Tensor],
        clip: float,
        decoder_clip: float,
    ) -> None:
        self.step, self.noise, self.clip, self.decoder_clip = step, noise, clip, decoder_clip
        self.graphs: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def forward(self, parameters: Tensor) -> Tensor:
        """Takes all steps from the first lambda, and returns the last one. Keeps the graph of each step."""
        velocity = torch.zeros_like(parameters)
        for epsilon in self.noise:
            start = parameters.detach().requires_grad_(), velocity.detach().requires_grad_()
            with torch.enable_grad():
                parameters, velocity = self.step(*start, epsilon)
            self.graphs.append((*start, parameters, velocity))

        return parameters.detach()

    def backward(self, gradient: Tensor, theta: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Takes the gradient back through all steps, from the last to the first, and clips it at each step.

        Args:
            gradient: Gradient of the training loss with respect to the last lambda, shape (batch, 2, latent).
            theta: The decoder's parameters.

        Returns:
            The gradients with respect to the first lambda and to each of the decoder's parameters.
        """
        of_velocity = torch.zeros_like(gradient)
        total = [torch.zeros_like(parameter) for parameter in theta]
        while self.graphs:
            *start, parameters, velocity = self.graphs.pop()
            # All steps share the part of the graph that reads the words, so no step may free that part.
            gradient, of_velocity, *contribution = torch.autograd.grad(
                (parameters, velocity),
                (*start, *theta),
                (gradient, of_velocity),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            gradient = clip_norm(gradient, self.clip)
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(contribution)))
            # A norm that is not finite scales nothing, so that only the broken parts of the gradient are not finite.
            factor = torch.where(norm.isfinite(), (self.decoder_clip / (norm + 1e-6)).clamp(max=1), 1.0)
            torch._foreach_add_(total, torch._foreach_mul(contribution, factor))

        return gradient, total


class Steps(torch.autograd.Function):
    """The map from the first lambda and the decoder's parameters to the last lambda, by the steps of a `StepChain`."""

    @staticmethod
    def forward(ctx: Any, chain: StepChain, parameters: Tensor, *theta: Tensor) -> Tensor:
        ctx.chain, ctx.theta = chain, theta

        return chain.forward(parameters)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        gradient, of_theta = ctx.chain.backward(gradients[0], ctx.theta)

        return None, gradient, *of_theta


take_steps: Callable[..., Tensor] = Steps.apply
"""The function of the class `Steps`."""


def clip_norm(gradient: Float[Tensor, "*batch latent"], norm: float) -> Float[Tensor, "*batch latent"]:
    """Scales each gradient, a vector along the last dimension, to a Euclidean norm of at most `norm`."""
    return gradient * (norm / (torch.linalg.vector_norm(gradient, dim=-1, keepdim=True) + 1e-6)).clamp(max=1)


def noise_from_data(x: Tensor, samples: tuple[int, ...], like: Float[Tensor, "batch latent"]) -> Tensor:
    """Draws standard normal noise that depends only on x: the bytes of each example seed the noise of that example.

    Args:
        x: The batch, shape (batch, ...).
        samples: The leading shape of the noise, such as (20,) for 20 samples of each example.
        like: A tensor of shape (batch, latent), from which the noise takes its width, type and device.

    Returns:
        The noise, shape (*samples, batch, latent).
    """
    generator = torch.Generator()
    rows = [
        torch.randn(*samples, like.shape[1], generator=generator.manual_seed(zlib.crc32(row.tobytes())))
        for row in x.cpu().numpy()
    ]

    return torch.stack(rows, -2).to(like)
