"""Adapts an encoder and a decoder that are given as functions, and plain data, to the measures of this package.

The measures read a `VAE` and a `Split`. `vae_of` and `Rows` build these two, so that the measures themselves stay as
they are. The measures compute on the CPU; the two functions compute on a device of their own.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Generator, Tensor, nn

from duvae.data.splits import Array, Split
from duvae.networks.bodies import Decoder, Encoder
from duvae.objectives import ELBO
from duvae.posteriors import DiagonalGaussian, PointMass
from duvae.vae import VAE

Encode = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Function from x to the means and the log variances of q(z|x), both of shape (batch, latent)."""

LogLikelihood = Callable[[Tensor, Tensor], Tensor]
"""Function from x and z, of shape (batch, latent), to log p(x|z) in nats, of shape (batch,)."""

LARGEST_LOG_VARIANCE = 80.0
"""Largest absolute value of a log variance. In single precision, the variance and its inverse are then finite."""

CHECKED = 8
"""Number of examples with which `check_functions` compares two calls of a function."""

SAME, ALIKE = 1e-4, 1e-2
"""Largest relative difference of two calls with the same batch, and of two calls with batches of different sizes.

A GPU may compute with other kernels for another size of the batch, so the second bound is larger.
"""

EVALUATION = (
    "Put the model into evaluation mode before measuring (`model.eval()`, or `measure(..., model=model)`), and draw no"
    " random numbers in the function."
)
"""The remedy for a function whose result is not one of x and z alone."""


class FunctionEncoder(Encoder):
    """Calls `encode`, checks its result, and joins means and log variances to the feature vectors of x.

    Args:
        encode: Function from x to means and log variances.
        batch: Largest number of examples in a call of `encode`.
        device: Device of the x that `encode` gets.
    """

    features = 0

    def __init__(self, encode: Encode, batch: int, device: torch.device) -> None:
        super().__init__()
        # A module as an attribute would be a part of this one, and would change its mode together with it.
        self.call: Encode = lambda x: encode(x)  # noqa: PLW0108
        self.batch, self.device = batch, device
        self.latent: int | None = None
        self.point = False

    def forward(self, x: Tensor) -> Tensor:
        """Computes the feature vectors on the CPU, shape (batch, 2 latent); (batch, latent) for point masses."""
        return torch.cat([self.joined(part.to(self.device)) for part in x.split(self.batch)])

    def joined(self, x: Tensor) -> Tensor:
        """Calls `encode` once, and joins the two parts of its result.

        Args:
            x: A batch, with at most `batch` examples.

        Raises:
            ValueError: If the result is not the one that `Encode` describes.
        """
        result = self.call(x)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise ValueError(f"encode: expected a pair (means, log variances); found {_kind(result)}.")
        mean, log_variance = result
        parts = [mean] if log_variance is None else [mean, log_variance]
        for name, part in zip(("means", "log variances"), parts, strict=False):
            if not isinstance(part, Tensor) or not part.is_floating_point():
                raise ValueError(f"encode: expected {name} as a tensor of floating-point numbers; found {_kind(part)}.")
            if part.ndim != 2 or len(part) != len(x) or not part.shape[1] or part.shape != parts[0].shape:
                raise ValueError(
                    f"encode: expected {name} of shape (batch, latent), the same shape for means and log variances;"
                    f" found {' and '.join(str(tuple(each.shape)) for each in parts if isinstance(each, Tensor))} for a"
                    f" batch of {len(x)}."
                )
            if not part.isfinite().all():
                raise ValueError(f"encode: expected finite {name}; {_count(~part.isfinite())} are NaN or infinite.")
        if log_variance is not None and (log_variance.abs() > LARGEST_LOG_VARIANCE).any():
            raise ValueError(
                f"encode: expected natural logarithms of variances, from {-LARGEST_LOG_VARIANCE:g} to"
                f" {LARGEST_LOG_VARIANCE:g}; found values from {float(log_variance.min()):.3g} to"
                f" {float(log_variance.max()):.3g}. Bound the log variances in the encoder, as with `clamp`."
            )
        if self.latent not in (None, mean.shape[1]) or (self.latent and self.point != (log_variance is None)):
            raise ValueError("encode: expected the same number of latent dimensions, and log variances, in every call.")
        self.latent, self.point = mean.shape[1], log_variance is None

        return torch.cat([part.detach().cpu() for part in parts], 1)


class FunctionHead(nn.Module):
    """Computes q(z|x) from the features of `FunctionEncoder`: a diagonal Gaussian, or a point mass.

    Args:
        point: Whether `encode` gives no variances, so that q(z|x) is a point mass.
    """

    def __init__(self, point: bool) -> None:
        super().__init__()
        self.point = point

    def forward(self, features: Tensor) -> DiagonalGaussian | PointMass:
        if self.point:
            return PointMass(features)
        mean, log_variance = features.chunk(2, -1)

        return DiagonalGaussian(mean, log_variance.exp())


class FunctionDecoder(Decoder):
    """Calls `log_likelihood`, and checks its result.

    Args:
        log_likelihood: Function from x and z to log p(x|z) in nats.
        batch: Largest number of pairs of x and z in a call of `log_likelihood`.
        device: Device of the x and the z that `log_likelihood` gets.
    """

    def __init__(self, log_likelihood: LogLikelihood, batch: int, device: torch.device) -> None:
        super().__init__()
        self.call: LogLikelihood = lambda x, z: log_likelihood(x, z)  # noqa: PLW0108 (as in `FunctionEncoder`)
        self.batch, self.device = batch, device

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        return self.log_prob_samples(x, z[None])[0]

    def log_prob_samples(self, x: Tensor, z: Tensor) -> Tensor:
        """Computes log p(x|z) on the CPU.

        Args:
            x: A batch of examples.
            z: Codes, shape (samples, batch, latent).

        Returns:
            log p(x|z) in nats, shape (samples, batch).
        """
        x, rows = x.to(self.device), z.reshape(-1, z.shape[-1])
        parts = [
            self.values(x[torch.arange(first, first + len(part), device=self.device) % len(x)], part.to(self.device))
            for first, part in zip(range(0, len(rows), self.batch), rows.split(self.batch), strict=True)
        ]

        return torch.cat(parts).reshape(z.shape[:-1])

    def values(self, x: Tensor, z: Tensor) -> Tensor:
        """Calls `log_likelihood` once.

        Args:
            x: Examples, at most `batch` of them.
            z: One code for each example, shape (batch, latent).

        Raises:
            ValueError: If the result is not one finite number for each example.
        """
        result = self.call(x, z)
        if not isinstance(result, Tensor) or not result.is_floating_point():
            raise ValueError(
                f"log_likelihood: expected a tensor of floating-point numbers of shape (batch,); found {_kind(result)}."
            )
        if result.shape != (len(x),):
            raise ValueError(
                f"log_likelihood: expected one number per example, shape ({len(x)},); found shape"
                f" {tuple(result.shape)}. Sum log p(x|z) over all axes but the first, and take no mean over the batch."
            )
        if not result.isfinite().all():
            raise ValueError(
                f"log_likelihood: expected finite values; {_count(~result.isfinite())} are NaN or infinite. Compute"
                " log p(x|z) from logits or log scales, so that no probability becomes 0."
            )

        return result.detach().cpu()

    def units(self, x: Tensor) -> int:
        return len(x)

    def sample(self, z: Tensor, generator: Generator | None = None, likely: bool = False) -> Tensor:
        """Always raises an error: log p(x|z) as a function generates no x, and no measure asks for one."""
        raise TypeError("the decoder is a function that computes log p(x|z); it cannot generate x")


class Rows(Split):
    """Examples in the memory, for the measures of models that are given as functions.

    The measures exchange z, and cut batches, among examples with the same value in `lengths`. Here these values are the
    numbers of groups: two examples are in one group if they have the same shape, and the same value in `groups`.

    Args:
        data: All examples as one tensor or array whose first axis is that of the examples, or such batches in turn.
            Batches may differ in the shape of their examples, such as sentences of different lengths.
        groups: Number of the group of each example, shape (examples,); None: only the shape distinguishes groups.

    Raises:
        ValueError: If there is no example, or if the data are not of this form.
    """

    def __init__(
        self, data: Tensor | Array | Iterable[Tensor | Array], groups: Sequence[int] | Array | None = None
    ) -> None:
        batches = [_array(each) for each in ([data] if isinstance(data, Tensor | np.ndarray) else data)]
        types = {str(each.dtype) for each in batches}
        count = sum(map(len, batches))
        if not count or len(types) > 1:
            raise ValueError(f"data: expected at least one example, and one type of numbers; found {count}, {types}.")
        chosen = np.zeros(count, np.int64) if groups is None else np.asarray(groups)
        if chosen.shape != (count,) or chosen.dtype.kind not in "iu":
            raise ValueError(
                f"groups: expected one whole number for each of the {count} examples; found an array of shape"
                f" {chosen.shape} and type {chosen.dtype}."
            )
        shapes = [each.shape[1:] for each in batches for _ in range(len(each))]
        keys = [(math.prod(shape), shape, group) for shape, group in zip(shapes, chosen.tolist(), strict=True)]
        ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
        self.shapes = [shape for _, shape, _ in ranks]
        self.labels = np.full(count, -1)
        self._groups = np.array([ranks[key] for key in keys])
        self._sizes = np.array([size for size, _, _ in keys])
        flat = [each.reshape(-1) for each in batches]
        self._values = flat[0] if len(flat) == 1 else np.concatenate(flat)

    @property
    def lengths(self) -> Array:
        """Number of the group of each example, shape (examples,). The groups are in the order of their sizes."""
        return self._groups

    @property
    def predicted(self) -> Array:
        """Number of values of each example, shape (examples,)."""
        return self._sizes

    @property
    def values(self) -> Array:
        """Values of all examples, concatenated, shape (values,)."""
        return self._values

    @property
    def starts(self) -> Array:
        """Index in `values` at which each example begins, shape (examples,)."""
        return np.cumsum(self._sizes) - self._sizes

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the examples of the first group."""
        return self.shapes[0]

    def batch(self, indices: Array) -> Array:
        """The examples at `indices`, all of one group, shape (batch, *shape)."""
        inside = np.arange(self._sizes[indices[0]])
        shape = self.shapes[self._groups[indices[0]]]

        return self._values[self.starts[indices][:, None] + inside].reshape(len(indices), *shape)

    def only(self, indices: Array) -> "Rows":
        """A new split that holds the examples at `indices`."""
        return Rows([self.batch(indices[n : n + 1]) for n in range(len(indices))], self._groups[indices])

    def contents(self) -> list[bytes]:
        """Bytes of each example."""
        return [self.batch(np.array([n])).tobytes() for n in range(len(self))]

    def fault(self, name: str, values: int | None) -> str:
        """Nothing: the constructor has checked the data."""
        return ""


def vae_of(encode: Encode, log_likelihood: LogLikelihood, split: Split, batch: int, device: torch.device) -> VAE:
    """Builds the `VAE` of two functions, and checks with a few examples that the functions suit the measures.

    Args:
        encode: Function from x to the means and the log variances of q(z|x); None as log variances: a point mass.
        log_likelihood: Function from x and z to log p(x|z) in nats.
        split: Data, whose first examples the check uses.
        batch: Largest number of examples, or of pairs of x and z, in a call of a function.
        device: Device on which the functions get their arguments.

    Raises:
        ValueError: If a result has another form than expected, changes from call to call, or depends on the batch.
    """
    encoder, decoder = FunctionEncoder(encode, batch, device), FunctionDecoder(log_likelihood, batch, device)
    with torch.no_grad():
        check_functions(encoder, decoder, split)

    return VAE(encoder, FunctionHead(encoder.point), decoder, ELBO())


def check_functions(encoder: FunctionEncoder, decoder: FunctionDecoder, split: Split) -> None:
    """Checks that the value of an example depends neither on chance nor on the other examples of its batch.

    Dropout, or batch normalization in training mode, would spoil all measures without an error.

    Args:
        encoder: Adapter of the encoder.
        decoder: Adapter of the decoder.
        split: Data. The check uses examples of the largest group.

    Raises:
        ValueError: If two calls differ.
    """
    largest = np.bincount(split.lengths).argmax()
    x = torch.from_numpy(split.batch(np.flatnonzero(split.lengths == largest)[: min(CHECKED, encoder.batch)]))
    features = encoder(x)
    z = features[:, : encoder.latent].float() if features.dtype.itemsize < 4 else features[:, : encoder.latent]
    for name, function in (("encode", encoder), ("log_likelihood", lambda x: decoder.log_prob(x, z[: len(x)]))):
        whole = function(x)
        if _distance(whole, function(x)) > SAME:
            raise ValueError(f"{name}: expected equal results for equal arguments; two calls differ. {EVALUATION}")
        if len(x) > 2 and _distance(whole[:2], function(x[:2])) > ALIKE:
            raise ValueError(
                f"{name}: expected a value of each example that does not depend on the other examples of the batch;"
                f" it does, as with batch normalization in training mode. {EVALUATION}"
            )


def modes(model: nn.Module | None) -> Iterator[tuple[nn.Module, bool]]:
    """Yields each module of a model with its mode (True: training); nothing for None."""
    for module in model.modules() if model is not None else ():
        yield module, module.training


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the size of the values where this is above 1."""
    return float(((one - other).abs() / one.abs().clamp_min(1)).max())


def _array(batch: object) -> Array:
    """Turns a batch into an array whose first axis is that of the examples."""
    if isinstance(batch, Tensor):
        if batch.dtype in (torch.bfloat16, torch.complex32):
            raise ValueError(f"data: expected a type that NumPy has; found {batch.dtype}. Convert it, as by `float()`.")
        batch = batch.detach().cpu().numpy()
    if not isinstance(batch, np.ndarray) or not batch.ndim:
        raise ValueError(
            f"data: expected a tensor, or batches that are tensors; found {_kind(batch)} as a batch. If a loader gives"
            " pairs (x, label), pass `(x for x, _ in loader)`."
        )
    if batch.dtype.kind == "f" and not np.isfinite(batch).all():
        raise ValueError(
            f"data: expected finite values; found {int((~np.isfinite(batch)).sum())} NaN or infinite ones."
        )

    return batch


def _count(flags: Tensor) -> str:
    return f"{int(flags.sum())} of {flags.numel()}"


def _kind(value: object) -> str:
    """Describes a wrong value for an error message."""
    if isinstance(value, Tensor):
        return f"a tensor of type {str(value.dtype).removeprefix('torch.')} and shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of length {len(value)}"

    return "None" if value is None else f"a value of type {type(value).__name__}"
