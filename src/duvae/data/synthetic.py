r"""The paper's synthetic text (supplement E): z from a mixture of Gaussians, a sentence from an LSTM that z starts.

$$z \sim \frac1C \sum_c N(m_c, v I), \quad h_0 = A z + a, \quad c_0 = 0, \quad
  p(x_t | x_{<t}, z) = \mathrm{softmax}(W [h_t; z] + b)$$

Everything is computed in double precision from numpy's generator, so that the same seed gives the same
sentences on another machine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from duvae.config import SyntheticSource, Truth
from duvae.data.store import END, SPECIALS, START, Array, Documents, Prepared
from duvae.errors import UserError

MARGIN = 30.0
"""Cells whose joint density lies exp(-30) under the sentence's highest are left out of the fine lattice."""


@dataclass(frozen=True)
class Generator:
    """The generator's weights, each an array by name.

    `embedding` (words + 4, embedding) and the affine map `initial_weight` (hidden, 2), `initial_bias` (hidden,) at
    PyTorch's defaults; `input`, `recurrent`, `lstm_bias` of the LSTM uniform on +-lstm_range, gates in the order
    i, f, g, o; `output` (words, hidden + 2) and `output_bias` uniform on +-output_range.
    """

    embedding: Tensor
    initial_weight: Tensor
    initial_bias: Tensor
    input: Tensor
    recurrent: Tensor
    lstm_bias: Tensor
    output: Tensor
    output_bias: Tensor

    @classmethod
    def of(cls, arrays: dict[str, Array]) -> "Generator":
        """From arrays by name."""
        return cls(**{name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()})

    def start(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """First hidden and cell state, each with shape (n, hidden)."""
        hidden = z @ self.initial_weight.T + self.initial_bias

        return hidden, torch.zeros_like(hidden)

    def step(self, word: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the LSTM: the states after reading `word` (n,)."""
        by_word = self.embedding[word] @ self.input.T + self.lstm_bias
        i, f, g, o = (by_word + hidden @ self.recurrent.T).chunk(4, -1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()

        return o.sigmoid() * cell.tanh(), cell

    def logits(self, hidden: Tensor, z: Tensor) -> Tensor:
        """Over the words, specials left out, with shape (n, words)."""
        return torch.addmm(self.output_bias, torch.cat([hidden, z], -1), self.output.T)

    def log_prob(self, words: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) of sentences (n, length), without `<s>` and the certain `</s>`, and z (n, 2): shape (n,)."""
        hidden, cell = self.start(z)
        total = z.new_zeros(len(z))
        before = torch.full_like(words[:, 0], START)
        for word in words.T:
            hidden, cell = self.step(before, hidden, cell)
            logits = self.logits(hidden, z)
            total += logits.gather(1, word[:, None] - len(SPECIALS))[:, 0] - logits.logsumexp(-1)
            before = word

        return total


def weights(source: SyntheticSource, random: np.random.Generator) -> dict[str, Array]:
    """The generator's weights, drawn."""
    hidden, embedding, words, latent = source.hidden, source.embedding, source.words, len(source.means[0])
    affine = 1 / math.sqrt(latent)  # PyTorch's default for a linear map with `latent` inputs
    lstm, output = source.lstm_range, source.output_range

    return {
        "embedding": random.standard_normal((words + len(SPECIALS), embedding)),
        "initial_weight": random.uniform(-affine, affine, (hidden, latent)),
        "initial_bias": random.uniform(-affine, affine, hidden),
        "input": random.uniform(-lstm, lstm, (4 * hidden, embedding)),
        "recurrent": random.uniform(-lstm, lstm, (4 * hidden, hidden)),
        # An LSTM of PyTorch has two biases, both uniform on +-lstm_range, of which only the sum matters.
        "lstm_bias": random.uniform(-lstm, lstm, (2, 4 * hidden)).sum(0),
        "output": random.uniform(-output, output, (words, hidden + latent)),
        "output_bias": random.uniform(-output, output, words),
    }


def generate(source: SyntheticSource) -> tuple[Prepared, dict[str, Array]]:
    """The data set, and beside it the generator's weights and each sentence's z.

    A sentence's label is its component.

    Returns:
        The splits train, valid and test; and the arrays `generator.<name>` and `<split>.z` of shape (n, 2).
    """
    random = np.random.default_rng(source.seed)
    arrays = weights(source, random)
    generator = Generator.of(arrays)
    splits: dict[str, Documents] = {}
    kept = {f"generator.{name}": value for name, value in arrays.items()}
    for name in ("train", "valid", "test"):
        count = getattr(source, name)
        labels = random.integers(len(source.means), size=count)
        z = np.asarray(source.means)[labels] + math.sqrt(source.variance) * random.standard_normal((count, 2))
        uniforms = random.random((source.length, count))
        splits[name] = _documents(sample(generator, z, uniforms), labels)
        kept[f"{name}.z"] = z
    vocabulary = [*SPECIALS, *(f"w{number:0{len(str(source.words - 1))}d}" for number in range(source.words))]
    summary = {
        "kind": "synthetic",
        "seed": source.seed,
        "components": len(source.means),
        "words": len(vocabulary),
        "splits": {
            name: {
                "documents": len(split),
                "tokens": int((split.lengths - 1).sum()),
                "unknown": 0,
                "components": np.bincount(split.labels, minlength=len(source.means)).tolist(),
            }
            for name, split in splits.items()
        },
    }

    return Prepared(vocabulary, splits, summary), kept


def sample(generator: Generator, z: Array, uniforms: Array) -> Array:
    """Sentences by inversion of the cumulative distribution.

    Args:
        generator: The generator.
        z: With shape (n, 2).
        uniforms: What the words are drawn with, with shape (length, n).

    Returns:
        Word ids of shape (n, length), specials counted.
    """
    latent = torch.from_numpy(z)
    hidden, cell = generator.start(latent)
    word = torch.full((len(z),), START)
    words = []
    for drawn in torch.from_numpy(uniforms):
        hidden, cell = generator.step(word, hidden, cell)
        cumulative = generator.logits(hidden, latent).softmax(-1).cumsum(-1)
        # The last cumulative value may lie a rounding under 1.
        word = torch.searchsorted(cumulative, (drawn * cumulative[:, -1])[:, None])[:, 0] + len(SPECIALS)
        words.append(word)

    return torch.stack(words, 1).numpy()


def _documents(words: Array, labels: Array) -> Documents:
    edge = np.ones((len(words), 1), words.dtype)

    return Documents.of(list(np.concatenate([START * edge, words, END * edge], 1)), labels)


def log_prior(z: Tensor, source: SyntheticSource) -> Tensor:
    """log p(z) of the mixture in nats: z of shape (n, 2), result of shape (n,)."""
    means = torch.tensor(source.means, dtype=z.dtype)
    squares = torch.cdist(z, means).square()
    components = -squares / (2 * source.variance) - math.log(2 * math.pi * source.variance)

    return components.logsumexp(-1) - math.log(len(means))


def true_nll(
    generator: Generator,
    source: SyntheticSource,
    words: Array,
    truth: Truth,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Array, Array]:
    r"""$-\log p(x) = -\log \int p(z) \, p(x|z) \, dz$ of the generator itself, by quadrature, in nats.

    The sum over a square lattice, times the area of a cell. Lattices 8 and 2 times as coarse, in single
    precision, find the cells that matter to a sentence; only they are summed finely, in double precision.
    The second figure is the same sum over every second line of the lattice in both directions: where the
    two agree, the spacing is fine enough.

    Args:
        generator: The generator.
        source: Gives the prior.
        words: Sentences without `<s>` and the certain `</s>`, with shape (n, length).
        truth: Spacing and half-width of the lattice.
        progress: Told how many sentences are done.

    Returns:
        Two arrays of shape (n,): at `spacing` and at twice that.
    """
    half = math.ceil(truth.halfwidth / truth.spacing / 8)
    if half < 8:
        raise UserError(
            f"params.yaml: truth.spacing {truth.spacing} leaves too few points within halfwidth {truth.halfwidth};"
            f" expected at most {truth.halfwidth / 64:.3g}."
        )
    coarsest = 8 * torch.cartesian_prod(*2 * [torch.arange(-half, half + 1)])
    single = Generator(**{name: value.float() for name, value in vars(generator).items()})
    area = 2 * math.log(truth.spacing)
    fine, twice = np.empty(len(words)), np.empty(len(words))

    def joint(by: Generator, lattice: Tensor, sentence: Tensor) -> Tensor:
        z = (lattice * truth.spacing).to(by.output.dtype)
        return log_prior(z, source) + by.log_prob(sentence.expand(len(z), -1), z)

    for n, sentence in enumerate(torch.from_numpy(words).long()):
        lattice = coarsest
        for cell, finer in ((8, 2), (2, 1)):
            density = joint(single, lattice, sentence)
            lattice = _refined(lattice[density > density.max() - MARGIN], cell, finer)
        density = joint(generator, lattice, sentence)
        even = (lattice % 2 == 0).all(1)
        fine[n] = -(density.logsumexp(0) + area)
        twice[n] = -(density[even].logsumexp(0) + area + math.log(4))
        progress(n + 1)

    return fine, twice


def _refined(kept: Tensor, cell: int, finer: int) -> Tensor:
    """The lattice of steps of `finer` in and one `cell` around the points kept of one of steps of `cell`."""
    reach = torch.arange(-cell, cell + 1, finer)

    return (kept[:, None] + torch.cartesian_prod(reach, reach)).flatten(0, 1).unique(dim=0)
