"""DU-VAE's regularizers of a posterior's parameters, for this project's VAEs and anybody else's.

    >>> normalize, drop = MeanBatchNorm(32, gamma=0.5), VarianceDropout(p=0.8)
    >>> mean, variance = normalize(torch.randn(64, 32)), drop(torch.rand(64, 32) + ALPHA)

then train on the ELBO as ever, and call `normalize.rescale_()` after each optimiser step.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from duvae.config import ALPHA


class Staged(nn.Module):
    """A module that does nothing until it is started (the paper's release starts two of them after the KL warm-up)."""

    def __init__(self, started: bool = True) -> None:
        super().__init__()
        self.started = started

    def start(self) -> None:
        """From now on the module acts."""
        self.started = True


class MeanBatchNorm(nn.Module):
    r"""Batch normalization on the means, equation 9.

    $$\hat\mu_{x,d} = \gamma_{\mu_d} \frac{\mu_{x,d} - \mu_{B_d}}{\delta_{B_d}} + \beta_{\mu_d}$$

    In training with the batch's statistics, in evaluation with the running ones. A batch of one has no
    variance: it is normalized with the running statistics, which stay as they are.

    Args:
        latent: Dimensions of z.
        gamma: The scale gamma, above 0.
        learn_scale: Learn each gamma_d from gamma on, with the mean of gamma_d^2 kept at gamma^2 by `rescale_`
            (DU-VAE); otherwise gamma_d = gamma for good (BN-VAE).
        epsilon: Added to the batch's variance.
        momentum: Weight of a batch in the running statistics.
    """

    scale: Tensor
    running_mean: Tensor
    running_variance: Tensor

    def __init__(
        self, latent: int, gamma: float, learn_scale: bool = True, epsilon: float = 1e-8, momentum: float = 0.1
    ) -> None:
        super().__init__()
        if not gamma > 0:
            raise ValueError(f"gamma must be above 0, got {gamma}")
        self.gamma, self.epsilon, self.momentum = gamma, epsilon, momentum
        if learn_scale:
            self.scale = nn.Parameter(torch.full((latent,), float(gamma)))
        else:
            self.register_buffer("scale", torch.full((latent,), float(gamma)))
        self.shift = nn.Parameter(torch.zeros(latent))
        self.register_buffer("running_mean", torch.zeros(latent))
        self.register_buffer("running_variance", torch.ones(latent))

    def forward(self, mean: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        return nn.functional.batch_norm(
            mean,
            self.running_mean,
            self.running_variance,
            self.scale,
            self.shift,
            training=self.training and len(mean) > 1,
            momentum=self.momentum,
            eps=self.epsilon,
        )

    @torch.no_grad()
    def rescale_(self) -> None:
        r"""$\gamma_\mu \leftarrow \gamma / \sqrt{E_d[\gamma_{\mu_d}^2]} \odot \gamma_\mu$: Algorithm 1, line 9.

        Called after each optimiser step. It does nothing where the scale is fixed.
        """
        if isinstance(self.scale, nn.Parameter):
            self.scale.mul_(self.gamma / self.scale.square().mean().sqrt())


class VarianceFloor(Staged):
    r"""$\delta^2 + \alpha$: z with zero-entropy noise N(0, alpha) added, so that H(q(z|x)) > 0 (section 3.1)."""

    def __init__(self, alpha: float = ALPHA, started: bool = True) -> None:
        super().__init__(started)
        self.alpha = alpha

    def forward(self, variance: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        return variance + self.alpha if self.started else variance


class VarianceDropout(Staged):
    r"""Dropout on the variances, equation 6, in training only.

    $$\hat\delta^2_{x,d} = g_{x,d} (\delta^2_{x,d} - \alpha) + \alpha, \qquad g \sim \tfrac1p B(1, p)$$

    Args:
        p: The probability to keep a variance, in (0, 1]; 1 leaves all as they are.
        alpha: What a dropped variance becomes. The variances that come in must be above it (`VarianceFloor`).
        started: Whether it acts from the beginning.
    """

    def __init__(self, p: float, alpha: float = ALPHA, started: bool = True) -> None:
        super().__init__(started)
        if not 0 < p <= 1:
            raise ValueError(f"p, the probability to keep a variance, must be in (0, 1], got {p}")
        self.p, self.alpha = p, alpha

    def forward(self, variance: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        if not (self.training and self.started):
            return variance
        g = torch.empty_like(variance).bernoulli_(self.p).div_(self.p)

        return g * (variance - self.alpha) + self.alpha
