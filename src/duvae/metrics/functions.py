r"""Measures any VAE whose encoder and decoder are given as two functions.

    >>> def encode(x):  # means and log variances of q(z|x), both of shape (batch, latent)
    ...     return 0.5 * x, torch.full_like(x, math.log(0.5))
    >>> def log_likelihood(x, z):  # log p(x|z) in nats, shape (batch,)
    ...     return torch.distributions.Normal(z, 1.0).log_prob(x).sum(-1)
    >>> measures = measure(encode, log_likelihood, x, samples=100)
    >>> measures.verdict
    'not collapsed'

The prior is p(z) = N(0, I). q(z|x) is a diagonal Gaussian, or the point of an autoencoder. `docs/metrics.md` defines
the measures, and `docs/metrics-library.md` shows them with a model. All measures are those of the command
`duvae evaluate`, computed by the same code.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from duvae.data.splits import Array
from duvae.metrics import encoding, verdict
from duvae.metrics.adapters import Encode, LogLikelihood, Rows, modes, vae_of
from duvae.metrics.decoder_use import decoder_use, use_measures
from duvae.metrics.dimensions import dimension_measures
from duvae.metrics.geometry import measures
from duvae.metrics.likelihood import importance_weighted_nll, nll_indices
from duvae.metrics.statistics import standard_error, with_error

CPU = torch.device("cpu")

SEED = 20_210_819
"""Default seed of `measure`. It is no small number, as made-up data often have one as their seed.

Data that were drawn with the same seed can contain the noise with which z is sampled. The measures are then wrong.
"""


@dataclass(frozen=True, eq=False)
class Measures:
    r"""Measures of a VAE on N examples, in nats per example where no other unit is given.

    A value is None where the measure is not defined: for a point mass, for a single example, or where it was not asked
    for.

    Attributes:
        examples: Number N of examples.
        latent: Number n of dimensions of z.
        reconstruction: Mean of -log p(x|z) with one sample of z for each x.
        kl: Mean of KL[q(z|x) || p(z)], exact.
        kl_by_dimension: Mean KL of each dimension of z, n numbers; their sum is `kl`.
        mi: Mutual information of x and z, estimated with one sample of z for each x. It is at most `mi_ceiling`, and on
            average too small where the true value comes near it.
        au: Number of active units: dimensions whose posterior mean has a variance over x above the threshold.
        mean_variances: Variance over x of the posterior mean of each dimension of z, n numbers.
        mpd: Mutual posterior diversity: mean symmetric KL of the posteriors of two examples.
        ce: Conditional entropy: mean entropy of q(z|x).
        use: Use of z by the decoder: by how much log p(x|z) falls, on average, with the z of another example.
        use_stderr: Standard error of `use` over the examples. It is that of paired differences: both terms have one x.
        samples: Number K of samples for each x in the importance-weighted NLL; None: no NLL.
        nll: Mean importance-weighted NLL, an upper bound of the mean of -log p(x) in expectation.
        nll_stderr: Standard error of `nll` over the examples. It covers the choice of examples only.
        nll_by_example: NLL of each measured example, shape (measured,), double precision.
        nll_indices: Indices of the measured examples in ascending order, shape (measured,).
        use_by_example: Use of z of each example, shape (examples,); NaN for an example that is alone in its group.
    """

    examples: int
    latent: int
    reconstruction: float
    kl: float | None
    kl_by_dimension: Sequence[float] | None
    mi: float | None
    au: int | None
    mean_variances: Sequence[float] | None
    mpd: float | None
    ce: float | None
    use: float | None
    use_stderr: float | None
    samples: int | None
    nll: float | None
    nll_stderr: float | None
    nll_by_example: Array | None = field(repr=False)
    nll_indices: Array | None = field(repr=False)
    use_by_example: Array = field(repr=False)

    @property
    def mi_ceiling(self) -> float:
        """Largest value that the estimate of the mutual information can take, log N, in nats."""
        return math.log(self.examples)

    @property
    def verdict(self) -> str:
        """`collapsed`, `not collapsed` or `cannot tell`, by the rule of `duvae.metrics.verdict.verdict`."""
        return verdict.verdict({"mi": self.mi, "kl": self.kl, "use": self.use, "use_stderr": self.use_stderr})

    @property
    def collapsed(self) -> bool | None:
        """Whether the model has collapsed; None where the measures do not tell."""
        return {verdict.COLLAPSED: True, verdict.NOT_COLLAPSED: False}.get(self.verdict)

    def __str__(self) -> str:
        return table({"model": self})


def measure(
    encode: Encode,
    log_likelihood: LogLikelihood,
    data: Tensor | Array | Iterable[Tensor | Array],
    *,
    samples: int | None = 500,
    nll_examples: int | None = None,
    groups: Sequence[int] | Array | None = None,
    active_threshold: float = 0.01,
    seed: int = SEED,
    batch: int = 256,
    device: torch.device | str = CPU,
    model: nn.Module | None = None,
) -> Measures:
    r"""Measures a VAE on a set of examples.

    With $z_i \sim q(z|x_i)$ and R = 5 permutations $\pi_r$ without fixed points, the measures are

    $$\mathrm{KL}_d = \frac1N \sum_i \tfrac12 (\mu_{i,d}^2 + \delta_{i,d}^2 - 1 - \log \delta_{i,d}^2), \qquad
      \mathrm{MI} = \frac1N \sum_i \log \frac{q(z_i|x_i)}{\frac1N \sum_j q(z_i|x_j)} \le \log N$$

    $$\mathrm{Use} = \frac1N \sum_i \Big( \log p(x_i|z_i) - \frac1R \sum_r \log p(x_i|z_{\pi_r(i)}) \Big), \qquad
      \mathrm{NLL} = -\frac1N \sum_i \log \frac1K \sum_k \frac{p(x_i|z_{i,k}) p(z_{i,k})}{q(z_{i,k}|x_i)}$$

    and $\mathrm{AU} = \#\{d : \mathrm{Var}_i(\mu_{i,d}) > 0.01\}$ (Burda et al. 2016). The use of z is a measure of
    this project. The permutations exchange z within groups of examples of the same shape. The functions are called
    without gradients.

    Args:
        encode: Function from x, shape (batch, ...), to the means and the log variances of q(z|x), both of shape
            (batch, latent). Without variances, as in an autoencoder, the second value is None.
        log_likelihood: Function from x, shape (batch, ...), and z, shape (batch, latent), to log p(x|z) in nats, shape
            (batch,): the sum over all values of an example, with all constants.
        data: All examples as one tensor or array whose first axis is that of the examples, or such batches in turn.
            Batches may differ in the shape of their examples. All data are kept in memory.
        samples: Number K of samples for each example in the NLL; None: no NLL, which takes longest.
        nll_examples: Largest number of examples whose NLL is measured, chosen at random; None: all examples.
        groups: Number of the group of each example, shape (examples,). z is exchanged within a group only, as with the
            lengths of padded sentences. None: all examples of one shape are a group.
        active_threshold: Variance of the posterior mean above which a dimension is active; 0.01 in the literature.
        seed: Seed of the samples of z, of the permutations and of the choice of examples. It must differ from any seed
            with which PyTorch drew the data.
        batch: Largest number of examples in a call of `encode`, and of pairs of x and z in one of `log_likelihood`.
        device: Device on which the two functions get their arguments.
        model: Module that the functions use. It is in evaluation mode during the call, and every part of it in its
            former mode afterwards. None: the functions must be those of a model in evaluation mode.

    Raises:
        ValueError: If an argument, or a result of the functions, is not as described. The message says what was
            expected and what was found. Results that change from call to call, or that depend on the other examples of
            the batch, are errors, too: they come from dropout, or from batch normalization in training mode.
    """
    for name, value in (("samples", samples), ("nll_examples", nll_examples), ("batch", batch)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name}: expected a whole number of at least 1; found {value!r}.")
    split = Rows(data, groups)
    with evaluation_mode(model):
        vae = vae_of(encode, log_likelihood, split, batch, torch.device(device))
        encoded = encoding.encode(vae, split, CPU, seed)
        use = decoder_use(vae, split, encoded, CPU, seed)
        nll = indices = None
        if samples is not None and encoded.density:
            indices = nll_indices(len(split), nll_examples, seed)
            part = split if len(indices) == len(split) else split.only(indices)
            nll = importance_weighted_nll(vae, part, samples, CPU, seed)
        whole = measures(encoded, active_threshold)
        dimensions = dimension_measures(vae, split, encoded, CPU, seed)

    return Measures(
        examples=len(split),
        latent=encoded.mean.shape[1],
        reconstruction=float(encoded.reconstruction.mean(dtype=np.float64)),
        kl=whole["kl"],
        kl_by_dimension=dimensions["kl_by_dimension"],
        mi=whole["mi"],
        au=None if whole["au"] is None else int(whole["au"]),
        mean_variances=dimensions["mean_variances"],
        mpd=whole["mpd"],
        ce=whole["ce"],
        **use_measures(use),
        samples=None if nll is None else samples,
        nll=None if nll is None else float(nll.mean()),
        nll_stderr=None if nll is None else standard_error(nll),
        nll_by_example=nll,
        nll_indices=indices,
        use_by_example=use,
    )


@contextlib.contextmanager
def evaluation_mode(model: nn.Module | None) -> Iterator[None]:
    """Sets evaluation mode inside the `with` block, and restores the mode of every part of the model afterwards.

    Args:
        model: The model; None: nothing is changed.
    """
    former = list(modes(model))
    if model is not None:
        model.eval()
    try:
        yield
    finally:
        for module, training in former:
            module.training = training


def table(columns: Mapping[str, Measures]) -> str:
    """Writes the measures of several models side by side, one column per model.

    Args:
        columns: Measures of each model, by the heading of its column. All should be of the same examples.

    Returns:
        Lines of text. A dash stands for a measure that is not defined.
    """
    rows = {
        "NLL, nats": [_estimate(each.nll, each.nll_stderr) for each in columns.values()],
        "KL, nats": [_number(each.kl) for each in columns.values()],
        "MI, nats (at most log N)": [
            f"{_number(each.mi)} ({each.mi_ceiling:.2f})" if each.mi is not None else "–" for each in columns.values()
        ],
        "active units": [f"{'–' if each.au is None else each.au} of {each.latent}" for each in columns.values()],
        "use of z, nats": [_estimate(each.use, each.use_stderr) for each in columns.values()],
        "verdict": [each.verdict for each in columns.values()],
    }
    lines = [["", *columns], *([name, *cells] for name, cells in rows.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value + 0.0:.2f}".replace("-0.00", "0.00")


def _estimate(value: float | None, error: float | None) -> str:
    return "–" if value is None else with_error(value, error, 2)
