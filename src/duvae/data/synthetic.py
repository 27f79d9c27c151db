r"""The paper's synthetic text (supplement E): z from a mixture of Gaussians, a sentence from an LSTM that z starts.

$$z \sim \frac1C \sum_c N(m_c, v I), \quad h_0 = A z + a, \quad c_0 = 0, \quad
  p(x_t | x_{<t}, z) = \mathrm{softmax}(W [h_t; z] + b)$$

Everything is computed in double precision from numpy's generator, so that the same seed gives the same
sentences on another machine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from duvae.config import SyntheticSource, Truth
from duvae.data.store import END, SPECIALS, START, Array, Documents, Prepared
from duvae.errors import UserError

COARSE = 4
"""How many times as coarse the lattice is that finds the cells that matter to a sentence."""

MARGIN = 25.0
"""By how many nats a point's joint density may lie under that of the sentence's own z and still matter; wide,
since a coarse lattice may miss the top."""

ROWS = 512
"""Values of z whose logits are held at a time, so that they stay in the cache."""


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

    @classmethod
    def names(cls) -> list[str]:
        """What the arrays are called."""
        return [field.name for field in fields(cls)]

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

    def joint(self, sentence: Tensor, z: Tensor, prior: Tensor, floor: float = -math.inf) -> tuple[Tensor, Tensor]:
        """log p(x, z) of one sentence and many z, in nats, where it is above `floor`.

        No word raises it, so that a z is given up as soon as it has fallen under the floor.

        Args:
            sentence: Word ids without `<s>` and the certain `</s>`, with shape (length,).
            z: With shape (n, 2).
            prior: log p(z), with shape (n,).
            floor: What is not of interest.

        Returns:
            Which z are above the floor, as indices, and their log p(x, z).
        """
        which, total = torch.arange(len(z)), prior
        hidden, cell = self.start(z)
        for before, word in zip([START, *sentence[:-1].tolist()], sentence.tolist(), strict=True):
            hidden, cell = self.step(torch.tensor([before]), hidden, cell)
            logits = self.logits(hidden, z)
            total = total + logits[:, word - len(SPECIALS)] - logits.logsumexp(-1)
            alive = total > floor
            which, total, z, hidden, cell = (value[alive] for value in (which, total, z, hidden, cell))

        return which, total


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
    own: Array,
    truth: Truth,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Array, Array]:
    r"""$-\log p(x) = -\log \int p(z) \, p(x|z) \, dz$ of the generator itself, by quadrature, in nats.

    The sum over a square lattice, times the area of a cell. A coarser lattice, in single precision, finds
    the cells that matter to a sentence; only they are summed finely, in double precision.
    The second figure is the same sum over every second line of the lattice in both directions: where the
    two agree, the spacing is fine enough.

    Args:
        generator: The generator.
        source: Gives the prior.
        words: Sentences without `<s>` and the certain `</s>`, with shape (n, length).
        own: The z each was written from, with shape (n, 2); it only tells what is too small to matter.
        truth: Spacing and half-width of the lattice.
        progress: Told how many sentences are done.

    Returns:
        Two arrays of shape (n,): at `spacing` and at twice that.
    """
    half = math.ceil(truth.halfwidth / truth.spacing / COARSE)
    if half < 8:
        raise UserError(
            f"params.yaml: truth.spacing {truth.spacing} leaves too few points within halfwidth {truth.halfwidth};"
            f" expected at most {truth.halfwidth / 8 / COARSE:.3g}."
        )
    coarse = COARSE * torch.cartesian_prod(*2 * [torch.arange(-half, half + 1)])
    single = Generator(**{name: value.float() for name, value in vars(generator).items()})
    area = 2 * math.log(truth.spacing)
    fine, twice = np.empty(len(words)), np.empty(len(words))

    def joint(by: Generator, sentence: Tensor, z: Tensor, floor: float) -> tuple[Tensor, Tensor]:
        which, density = [], []
        for first, part in zip(range(0, len(z), ROWS), z.to(by.output.dtype).split(ROWS), strict=True):
            above, values = by.joint(sentence, part, log_prior(part, source), floor)
            which.append(first + above)
            density.append(values)
        return torch.cat(which), torch.cat(density)

    for n, (sentence, z) in enumerate(zip(torch.from_numpy(words).long(), torch.from_numpy(own), strict=True)):
        top = float(joint(generator, sentence, z[None], -math.inf)[1])
        matter, _ = joint(single, sentence, coarse.double() * truth.spacing, top - MARGIN)
        lattice = _refined(coarse[matter])
        which, density = joint(generator, sentence, lattice.double() * truth.spacing, top - MARGIN)
        even = (lattice[which] % 2 == 0).all(1)
        fine[n] = -(density.logsumexp(0) + area)
        twice[n] = -(density[even].logsumexp(0) + area + math.log(4))
        progress(n + 1)

    return fine, twice


def _refined(kept: Tensor) -> Tensor:
    """The fine lattice in and one cell around the points kept of the coarse one, each point once."""
    reach = torch.arange(-COARSE, COARSE + 1)
    points = (kept[:, None] + torch.cartesian_prod(reach, reach)).flatten(0, 1)
    side = 2 * int(points.abs().max()) + 1  # as one number each: much cheaper to sort than pairs
    keys = (points[:, 0] * side + points[:, 1]).unique()
    second = (keys + side // 2).remainder(side) - side // 2

    return torch.stack([(keys - second) // side, second], 1)
