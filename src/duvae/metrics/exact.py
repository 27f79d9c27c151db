r"""Computes the exact NLL of a model with a two-dimensional z, and the bias of the importance-weighted NLL.

The exact NLL is $-\log \int p(z) \, p(x|z) \, dz$ by quadrature. The importance-weighted NLL is above the exact NLL in
expectation. Its bias is its distance from the exact NLL.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duvae.data.batches import tensor
from duvae.data.splits import Array, Split
from duvae.errors import UserError
from duvae.metrics.encoding import evaluating
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.metrics.statistics import standard_error
from duvae.posteriors import standard_normal_log_prob
from duvae.quadrature import integrals
from duvae.vae import VAE

LATENT = 2
"""Number of dimensions of z for which the exact NLL can be computed."""

ROWS = 4096
"""Number of codes z that are decoded at once."""

MARGIN = 16.0
"""Margin in nats of the points of a lattice that are left out of the sum (see `duvae.quadrature`).

The decoder of a trained model is much smoother than the generator of the synthetic data, so the margin is narrower. The
points that are left out change the sum by about 1e-6 of its value."""

ATTEMPTS = 4
"""Largest number of lattices for one example. Each is finer or wider than the one before, or both."""

ROUGH = 0.01
"""Largest difference in nats between the sums with the lattice and with twice its spacing.

If the difference is larger, the spacing is halved. The error of such a sum falls very fast with the spacing h: for a
Gaussian with the standard deviation s, it is about 2 exp(-2 (pi s / h)^2). So if twice the spacing has an error of
0.01, the spacing itself has one of about 1e-9."""

BORDER = 1e-6
"""Largest share of the integral at the border of the lattice. If the share is larger, the lattice is made wider."""

WIDER = 1.5
"""Factor by which a lattice is made wider."""


def exact_nll(
    model: VAE,
    split: Split,
    codes: Array,
    spacing: float,
    halfwidth: float,
    device: torch.device,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Array, Array]:
    r"""Computes the exact NLL of each example, $-\log \int N(z; 0, I) \, p(x|z) \, dz$ in nats.

    The function `duvae.quadrature.integrals` computes the integral. The decoder computes log p(x|z) in single
    precision, and the values are added in double precision. The lattice of an example reaches beyond its codes. Two
    checks may make the lattice finer or wider, see `ROUGH` and `BORDER`.

    Args:
        model: Trained model with a two-dimensional z; it is not changed.
        split: Examples to evaluate: documents, or images of bits.
        codes: Codes at which p(x, z) is large, such as the posterior mean and a sample of the posterior, for each
            example, shape (examples, codes, 2).
        spacing: Distance between neighbouring points of the first lattice.
        halfwidth: Bound of the first lattice, which reaches from -halfwidth to halfwidth in each dimension.
        device: Device to compute on.
        progress: Function that receives the number of finished examples; the default does nothing.

    Returns:
        Negative log-likelihood of each example in nats, and the same with twice the spacing of the last lattice, both
        of shape (examples,).

    Raises:
        UserError: If no lattice is fine or wide enough, or if the spacing leaves too few points in the lattice.
    """
    nll, twice = np.empty(len(split)), np.empty(len(split))
    with evaluating(model):
        for n, own in enumerate(codes.astype(np.float64)):
            x = tensor(split, np.array([n]), device)

            def log_joint(index: int, z: Tensor, floor: float, precise: bool, x: Tensor = x) -> tuple[Tensor, Tensor]:
                parts = z.float().to(device).split(ROWS)
                values = torch.cat([model.decoder.log_prob_samples(x, part[:, None])[:, 0] for part in parts])
                joint = values.cpu().double() + standard_normal_log_prob(z)
                kept = torch.nonzero(joint > floor)[:, 0]
                return kept, joint[kept]

            fine, wide = spacing, max(halfwidth, 1 + float(np.abs(own).max()))
            for _ in range(ATTEMPTS):
                found = integrals(log_joint, own[None], fine, wide, MARGIN)
                nll[n], twice[n] = found.nll[0], found.twice[0]
                missed, narrow = not np.isfinite(nll[n]), found.border[0] > BORDER
                rough = missed or abs(twice[n] - nll[n]) > ROUGH
                if not narrow and not rough:
                    break
                fine, wide = fine / 2 if rough else fine, wide * WIDER if narrow else wide
            if missed:
                raise UserError(
                    f"exact NLL: no point of the lattice has a likelihood near the one of the posterior of test example"
                    f" {n}; expected a spacing below {2 * fine:.3g}. Lower 'exact.spacing' in"
                    " params.yaml, or set 'exact' to null."
                )
            if narrow:
                raise UserError(
                    f"exact NLL: expected at most {BORDER:g} of the likelihood of test example {n} at the border of the"
                    f" lattice; found {found.border[0]:.3g} at {wide / WIDER:.3g}. Raise 'exact.halfwidth' in"
                    " params.yaml, or set 'exact' to null."
                )
            progress(n + 1)

    return nll, twice


def exact_measures(exact: Array, twice: Array, estimate: Array) -> dict[str, float | int | None]:
    """Computes the mean exact NLL, and the bias of the importance-weighted NLL of the same examples.

    Args:
        exact: Exact NLL of each example in nats, shape (examples,).
        twice: The same with twice the spacing, shape (examples,).
        estimate: Importance-weighted NLL of each example in nats, shape (examples,).

    Returns:
        Values of `sentences`, `nll`, `nll_stderr`, `coarse_difference`, `importance_nll`, `bias` and `bias_stderr`. All
        but the first are in nats. `coarse_difference` is the mean of the second argument minus the first. `bias_stderr`
        is the standard error of the paired differences.
    """
    return {
        "sentences": len(exact),
        "nll": float(exact.mean()),
        "nll_stderr": standard_error(exact),
        "coarse_difference": float((twice - exact).mean()),
        "importance_nll": float(estimate.mean()),
        "bias": float((estimate - exact).mean()),
        "bias_stderr": standard_error(estimate - exact),
    }


def bias_curve(
    model: VAE,
    split: Split,
    exact: Array,
    samples: Sequence[int],
    device: torch.device,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Computes the importance-weighted NLL and its bias for several numbers of samples.

    Args:
        model: Trained model whose posterior has a density; it is not changed.
        split: Examples whose exact NLL is `exact`, in the same order.
        exact: Exact NLL of these examples in nats, shape (examples,).
        samples: Numbers K of samples for each example.
        device: Device to compute on.
        seed: Seed of the samples.
        progress: Function that receives the number of decoded samples of z; the default does nothing.

    Returns:
        For each K, the values of `samples`, which is K, and of `nll`, `bias` and `bias_stderr` in nats.
    """
    curve: list[dict[str, Any]] = []
    done = 0
    for count in samples:

        def decoded(examples: int, count: int = count, before: int = done) -> None:
            progress(before + count * examples)

        nll = importance_weighted_nll(model, split, count, device, seed, decoded)
        done += count * len(split)
        difference = nll - exact
        curve.append(
            {
                "samples": count,
                "nll": float(nll.mean()),
                "bias": float(difference.mean()),
                "bias_stderr": standard_error(difference),
            }
        )

    return curve
