"""Regularizers of the means and variances of q(z|x). DU-VAE's two regularizers work in any VAE.

    >>> normalize, drop = MeanBatchNorm(32, gamma=0.5), VarianceDropout(p=0.8)
    >>> mean, variance = normalize(torch.randn(64, 32)), drop(torch.rand(64, 32) + ALPHA)

Apply the two modules to the mean and the variance of q(z|x), train on the ELBO as usual, and call
`normalize.rescale_()` after each optimiser step. Sections, equations and supplements are those of the DU-VAE paper.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

ALPHA = 1 / (2 * math.pi * math.e)
"""The variance alpha of the zero-entropy noise of section 3.1: the entropy H(N(0, alpha)) is 0."""


class Staged(nn.Module):
    """A module that returns its input unchanged until `start` is called.

    An example is a regularizer that waits for the end of the warm-up of the KL weight.

    Args:
        started: Whether the module changes its input from the beginning, without a call of `start`.
    """

    def __init__(self, started: bool = True) -> None:
        super().__init__()
        self.started = started

    def start(self) -> None:
        """Starts the module: from this call on, the module changes its input."""
        self.started = True


class MeanBatchNorm(nn.Module):
    r"""Batch normalization on the means, equation 9.

    $$\hat\mu_{x,d} = \gamma_{\mu_d} \frac{\mu_{x,d} - \mu_{B_d}}{\delta_{B_d}} + \beta_{\mu_d}$$

    In training, $\mu_{B_d}$ and $\delta_{B_d}$ are the mean and the standard deviation over the batch. In evaluation
    they are the running statistics. A batch of one example has no variance. For such a batch the module uses the
    running statistics, and does not update them.

    Args:
        latent: The number of dimensions of z.
        gamma: The scale gamma, above 0, from which every gamma_d starts.
        learn_scale: Whether each scale gamma_d is learned, starting at gamma (DU-VAE). Otherwise each gamma_d stays
            gamma (BN-VAE).
        constrain: Whether `rescale_` keeps the mean of the learned gamma_d^2 at gamma^2. False for the system of
            supplement F, a BN-VAE with a fixed beta.
        shift: The fixed shift beta_d of all dimensions (supplement F); None: each beta_d is learned, starting at 0.
        epsilon: The number that is added to the variance before the division, so that no division by 0 occurs.
        momentum: The weight of a new batch in the running statistics, from 0 to 1.

    Raises:
        ValueError: If gamma is not above 0.
    """

    scale: Tensor
    shift: Tensor
    running_mean: Tensor
    running_variance: Tensor

    def __init__(
        self,
        latent: int,
        gamma: float,
        learn_scale: bool = True,
        constrain: bool = True,
        shift: float | None = None,
        epsilon: float = 1e-8,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if not gamma > 0:
            raise ValueError(f"gamma must be above 0, got {gamma}")
        self.gamma, self.epsilon, self.momentum = gamma, epsilon, momentum
        self.constrained = learn_scale and constrain
        if learn_scale:
            self.scale = nn.Parameter(torch.full((latent,), float(gamma)))
        else:
            self.register_buffer("scale", torch.full((latent,), float(gamma)))
        if shift is None:
            self.shift = nn.Parameter(torch.zeros(latent))
        else:
            self.register_buffer("shift", torch.full((latent,), float(shift)))
        self.register_buffer("running_mean", torch.zeros(latent))
        self.register_buffer("running_variance", torch.ones(latent))

    def forward(self, mean: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Normalizes the means of a batch, shape (batch, latent)."""
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
        r"""Rescales the learned scales, so that the mean of their squares is gamma^2 again (Algorithm 1, line 9).

        $$\gamma_\mu \leftarrow \gamma / \sqrt{E_d[\gamma_{\mu_d}^2]} \odot \gamma_\mu$$

        Call this method after each optimiser step. The method does nothing if the scales are fixed or not constrained.
        """
        if self.constrained:
            self.scale.mul_(self.gamma / self.scale.square().mean().sqrt())


LARGEST_LOG_VARIANCE = 20.0
"""Bound of the absolute values of log variances. Standard deviations then lie between e^-10 and e^10.

The prior has a log variance of 0. At the bound the KL term of a dimension is 2e8 or 9.5 nats, far from any sound
posterior. The bound only keeps a training that goes astray from infinite variances.
"""


def bounded(x: Float[Tensor, "*shape"], low: float, high: float) -> Float[Tensor, "*shape"]:
    """Returns the nearest number between `low` and `high` to each element of x.

    The gradient passes through unchanged, also where the bound acts. So an element beyond the bound still gets the
    gradient at the bound, with which the KL term draws it back. The gradient of `torch.clamp` is 0 there.
    """
    return x.clamp(low, high).detach() + (x - x.detach())


class VarianceFloor(Staged):
    r"""$\delta^2 + \alpha$: the variance of z plus zero-entropy noise, so that H(q(z|x)) > 0 (section 3.1).

    Once the module has started, all variances of its output lie above alpha. This lower bound is called the variance
    floor.

    Args:
        alpha: The variance of the noise.
        started: Whether the module adds the noise from the beginning; otherwise from the call of `start`.
    """

    def __init__(self, alpha: float = ALPHA, started: bool = True) -> None:
        super().__init__(started)
        self.alpha = alpha

    def forward(self, variance: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Adds alpha to the variances, shape (batch, latent)."""
        return variance + self.alpha if self.started else variance


class VarianceDropout(Staged):
    r"""Dropout on the variances, equation 6, in training only.

    $$\hat\delta^2_{x,d} = g_{x,d} (\delta^2_{x,d} - \alpha) + \alpha, \qquad g \sim \tfrac1p B(1, p)$$

    Args:
        p: The probability that a variance is kept, in (0, 1]; with 1 all variances are kept.
        alpha: The value of a dropped variance. The variances of the input must be above alpha (see `VarianceFloor`).
        started: Whether the module drops variances from the beginning; otherwise from the call of `start`.

    Raises:
        ValueError: If p is not in (0, 1].
    """

    def __init__(self, p: float, alpha: float = ALPHA, started: bool = True) -> None:
        super().__init__(started)
        if not 0 < p <= 1:
            raise ValueError(f"p, the probability to keep a variance, must be in (0, 1], got {p}")
        self.p, self.alpha = p, alpha

    def forward(self, variance: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Drops some of the variances, shape (batch, latent)."""
        if not (self.training and self.started):
            return variance
        g = torch.empty_like(variance).bernoulli_(self.p).div_(self.p)

        return g * (variance - self.alpha) + self.alpha


class CommittedRate(nn.Module):
    r"""A map to means and variances whose KL from N(0, 1) is at least delta in every dimension (Razavi et al. 2018).

    $2 KL = \mu^2 + \sigma^2 - 1 - \log \sigma^2 \ge 2 \delta$ wherever $\mu^2 \ge b(\sigma^2)$ with
    $b(v) = 2 \delta + 1 + \log v - v$. b is concave and not negative between its two roots
    $v = -W(-e^{-(2 \delta + 1)})$, one for each real branch of Lambert's function W. Let $\sigma_l < \sigma_u$ be the
    square roots of these roots. The network gives two unbounded numbers m and s for each dimension. The map turns s
    into a $\sigma$ in $[\sigma_l, \sigma_u]$, and m into a mean that is at least $\sqrt{b(\sigma^2)}$:

    $$\sigma = \sigma_l + (\sigma_u - \sigma_l) \, \mathrm{sigmoid}(s), \qquad
      \mu = \sqrt{b(\sigma^2)} + \max(0, m)$$

    If $m \le 0$, the KL is exactly delta for every $\sigma$. A dimension has collapsed if $m \le 0$ for all x and
    $\sigma$ does not depend on x.

    Args:
        delta: The committed rate: the smallest KL of each dimension, in nats, above 0.

    Raises:
        ValueError: If delta is not above 0.
    """

    def __init__(self, delta: float) -> None:
        super().__init__()
        if not delta > 0:
            raise ValueError(f"delta, the committed rate, must be above 0, got {delta}")
        self.delta = delta
        z = -math.exp(-(2 * delta + 1))
        p = math.sqrt(max(0.0, 2 * (math.e * z + 1)))
        # The values of the two branches of W meet at -1, and the iteration of `lambert_w` stays on the side of -1 on
        # which it starts. The first start, from the series of W around that point, lies above -1. The second start,
        # log(-z), lies below -1.
        starts = (-p / 3 + 1) * p - 1, math.log(-z)
        self.lowest, self.highest = (math.sqrt(-lambert_w(z, start)) for start in starts)

    def forward(
        self, m: Float[Tensor, "*batch latent"], s: Float[Tensor, "*batch latent"]
    ) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, "*batch latent"]]:
        """Computes the means and the variances, each of shape (batch, latent).

        Args:
            m: Unbounded outputs for the means, shape (batch, latent).
            s: Unbounded outputs for the standard deviations, shape (batch, latent).
        """
        variance = (self.lowest + (self.highest - self.lowest) * s.sigmoid()).square()
        bound = 2 * self.delta + 1 + variance.log() - variance
        # At the roots of b the bound is 0, up to a rounding error. The square root has no finite slope at 0, so the
        # bound is kept a little above 0.
        least = bound.clamp_min(torch.finfo(bound.dtype).eps).sqrt()

        return least + m.relu(), variance


def lambert_w(z: float, start: float) -> float:
    r"""Computes a real branch of Lambert's W, a solution w of $w e^w = z$, by Halley's iteration (Corless et al. 1996).

    `scipy.special.lambertw` uses the same iteration. This copy lets the regularizers run without SciPy.

    Args:
        z: A number between -1/e and 0.
        start: The first guess of w, which chooses the branch: w lies above -1 on one branch, and below -1 on the other.
    """
    w = start
    while w != -1:
        exp = math.exp(w)
        excess = w * exp - z
        following = w - excess / (exp + w * exp - (w + 2) * excess / (2 * w + 2))
        # The iteration converges cubically. So after a step of relative size 1e-8 the error is below rounding errors.
        if abs(following - w) <= 1e-8 * abs(following):
            return following
        w = following

    return w
