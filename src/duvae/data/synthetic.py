r"""Generates the synthetic sentences of the paper (section E of its supplement), and computes their true likelihood.

The generator draws a latent code z from a mixture of C Gaussians. Then an LSTM writes a sentence x from z, word by
word:

$$z \sim \frac1C \sum_c N(m_c, v I), \quad h_0 = A z + a, \quad c_0 = 0, \quad
  p(x_t | x_{<t}, z) = \mathrm{softmax}(W [h_t; z] + b)$$

All random numbers come from numpy, and the LSTM computes in double precision. A seed therefore gives the same sentences
on every machine.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from duvae.config import SyntheticSource, Truth
from duvae.data.splits import END, SPECIALS, START, Array, Documents
from duvae.data.store import Prepared
from duvae.quadrature import integrals

ROWS = 512
"""Number of codes z for which log p(x, z) is computed together. It is so small that the logits fit into the processor's
cache."""


@dataclass(frozen=True)
class Generator:
    """The weights of the LSTM that writes sentences from z. The module docstring defines the letters A, a, W and b.

    Attributes:
        embedding: Word embeddings, shape (words + 4, embedding); drawn from a standard normal distribution.
        initial_weight: A of the affine map from z to the first hidden state, shape (hidden, 2); drawn from PyTorch's
            default distribution for a linear layer.
        initial_bias: a of the affine map, shape (hidden,); drawn from the same distribution as `initial_weight`.
        input: LSTM weights of the embeddings, shape (4 hidden, embedding); uniform between -lstm_range and lstm_range.
            The order of the gates is i, f, g, o: input gate, forget gate, cell candidate, output gate.
        recurrent: LSTM weights of the hidden state, shape (4 hidden, hidden); uniform in the same range as `input`.
        lstm_bias: LSTM biases, shape (4 hidden,); each is the sum of two uniform values in the same range as `input`.
        output: W of the logits, shape (words, hidden + 2); uniform between -output_range and output_range. The last two
            columns, which multiply z, are uniform between -latent_range and latent_range if the source has this range.
        output_bias: b of the logits, shape (words,); uniform in the same range as `output`.
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
        """Builds a generator from its arrays; the keys of `arrays` are the names of the attributes."""
        return cls(**{name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()})

    @classmethod
    def names(cls) -> list[str]:
        """Names of the arrays."""
        return [field.name for field in fields(cls)]

    def start(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """First hidden state and first cell state, each of shape (n, hidden), for z of shape (n, 2)."""
        hidden = z @ self.initial_weight.T + self.initial_bias

        return hidden, torch.zeros_like(hidden)

    def step(self, word: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the LSTM for one word.

        Args:
            word: Word ids that the LSTM reads, shape (n,).
            hidden: Hidden state before the word, shape (n, hidden).
            cell: Cell state before the word, shape (n, hidden).

        Returns:
            Hidden state and cell state after the word.
        """
        by_word = self.embedding[word] @ self.input.T + self.lstm_bias
        i, f, g, o = (by_word + hidden @ self.recurrent.T).chunk(4, -1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()

        return o.sigmoid() * cell.tanh(), cell

    def logits(self, hidden: Tensor, z: Tensor) -> Tensor:
        """Logits of the next word, shape (n, words). Special words have no logits, because they are never written."""
        return torch.addmm(self.output_bias, torch.cat([hidden, z], -1), self.output.T)

    def joint(self, sentence: Tensor, z: Tensor, prior: Tensor, floor: float = -math.inf) -> tuple[Tensor, Tensor]:
        """Computes log p(x, z) in nats for one sentence x and many z, and keeps the z whose value is above `floor`.

        Every word of x lowers log p(x, z). So as soon as the value of a z has fallen to `floor`, the computation leaves
        out this z for the rest of the sentence.

        Args:
            sentence: Word ids of x, shape (length,), without `<s>` and `</s>`, whose probability is 1.
            z: Latent codes, shape (n, 2).
            prior: log p(z) of each code in nats, shape (n,).
            floor: Bound in nats that log p(x, z) of a kept z must exceed. The default keeps all z.

        Returns:
            Indices of the z that are kept, and log p(x, z) of each of them, both of shape (kept z,).
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
    """Draws the weights of the generator. The keys of the result are the attributes of `Generator`."""
    hidden, embedding, words, latent = source.hidden, source.embedding, source.words, len(source.means[0])
    affine = 1 / math.sqrt(latent)  # PyTorch's default for a linear map with `latent` inputs
    lstm, output = source.lstm_range, source.output_range
    # The range of each column of the output map: those of h, then those of z.
    of_z = output if source.latent_range is None else source.latent_range
    ranges = np.repeat([output, of_z], [hidden, latent])

    return {
        "embedding": random.standard_normal((words + len(SPECIALS), embedding)),
        "initial_weight": random.uniform(-affine, affine, (hidden, latent)),
        "initial_bias": random.uniform(-affine, affine, hidden),
        "input": random.uniform(-lstm, lstm, (4 * hidden, embedding)),
        "recurrent": random.uniform(-lstm, lstm, (4 * hidden, hidden)),
        # An LSTM of PyTorch has two biases, both uniform on +-lstm_range. Only their sum matters.
        "lstm_bias": random.uniform(-lstm, lstm, (2, 4 * hidden)).sum(0),
        "output": random.uniform(-ranges, ranges, (words, hidden + latent)),
        "output_bias": random.uniform(-output, output, words),
    }


def prepared_synthetic(source: SyntheticSource) -> tuple[Prepared, dict[str, Array]]:
    """Draws the weights of the generator, and the sentences of all splits.

    The label of a sentence is the mixture component of its z. The further training sentences are drawn last, so that
    they change no bit of the weights and of the other sentences. They are the last ones of the training split.

    Args:
        source: The data set's `source` in params.yaml.

    Returns:
        The data set, and additional arrays by name. `generator.<name>` is one attribute of `Generator`. `<split>.z`
        holds the latent code of each sentence in the split, shape (n, 2).
    """
    random = np.random.default_rng(source.seed)
    arrays = weights(source, random)
    generator = Generator.of(arrays)
    drawn = {name: _draw(generator, source, getattr(source, name), random) for name in ("train", "valid", "test")}
    if source.further is not None:
        further = _draw(generator, source, source.further, random)
        drawn["train"] = _Sentences(*map(np.concatenate, zip(drawn["train"], further, strict=True)))
    splits = {name: _documents(sentences.words, sentences.labels) for name, sentences in drawn.items()}
    stored = {f"generator.{name}": value for name, value in arrays.items()}
    stored |= {f"{name}.z": sentences.z for name, sentences in drawn.items()}
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

    return Prepared(vocabulary, splits, summary), stored


class _Sentences(NamedTuple):
    """Sentences of the generator.

    Attributes:
        words: Word ids, shape (n, length).
        labels: Mixture component of each z, shape (n,).
        z: Latent code of each sentence, shape (n, 2).
    """

    words: Array
    labels: Array
    z: Array


def _draw(generator: Generator, source: SyntheticSource, count: int, random: np.random.Generator) -> _Sentences:
    """Draws `count` sentences with their labels and latent codes."""
    labels = random.integers(len(source.means), size=count)
    z = np.asarray(source.means)[labels] + math.sqrt(source.variance) * random.standard_normal((count, 2))
    uniforms = random.random((source.length, count))

    return _Sentences(sample(generator, z, uniforms), labels, z)


def sample(generator: Generator, z: Array, uniforms: Array) -> Array:
    """Draws sentences by inverting the cumulative distribution of each word.

    Args:
        generator: The generator.
        z: Latent code of each sentence, shape (n, 2).
        uniforms: Uniform random numbers from 0 to 1, one per word, shape (length, n).

    Returns:
        Word ids, shape (n, length); the ids 0 to 3 are the special words, which do not occur.
    """
    latent = torch.from_numpy(z)
    hidden, cell = generator.start(latent)
    word = torch.full((len(z),), START)
    words = []
    for uniform in torch.from_numpy(uniforms):
        hidden, cell = generator.step(word, hidden, cell)
        cumulative = generator.logits(hidden, latent).softmax(-1).cumsum(-1)
        # Rounding may leave the last cumulative value just below 1. So the uniform number is scaled by this value.
        word = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None])[:, 0] + len(SPECIALS)
        words.append(word)

    return torch.stack(words, 1).numpy()


def _documents(words: Array, labels: Array) -> Documents:
    edge = np.ones((len(words), 1), words.dtype)

    return Documents.of(list(np.concatenate([START * edge, words, END * edge], 1)), labels)


def log_prior(z: Tensor, source: SyntheticSource) -> Tensor:
    """Computes log p(z) of the mixture in nats, shape (n,), for z of shape (n, 2)."""
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
    r"""Computes the true NLL $-\log p(x) = -\log \int p(z) \, p(x|z) \, dz$ of sentences in nats, by quadrature.

    The function `duvae.quadrature.integrals` computes the integral. The generator computes in single precision where it
    only finds out which cells matter, and in double precision otherwise.

    Args:
        generator: The generator that wrote the sentences.
        source: The data set's `source` in params.yaml, with the parameters of the prior p(z).
        words: Word ids of each sentence, shape (n, length), without `<s>` and `</s>`, whose probability is 1.
        own: Latent code from which each sentence was drawn, shape (n, 2).
        truth: Spacing and half-width of the fine lattice.
        progress: Function that receives the number of finished sentences; the default does nothing.

    Returns:
        Negative log-likelihood of each sentence in nats, computed with the spacing `truth.spacing` and then with twice
        that spacing. Both arrays have the shape (n,).

    Raises:
        UserError: If the spacing leaves too few points in the lattice.
    """
    single = Generator(**{name: value.float() for name, value in vars(generator).items()})
    sentences = torch.from_numpy(words).long()

    def log_joint(index: int, z: Tensor, floor: float, precise: bool) -> tuple[Tensor, Tensor]:
        by, which, density = generator if precise else single, [], []
        for first, part in zip(range(0, len(z), ROWS), z.to(by.output.dtype).split(ROWS), strict=True):
            above, values = by.joint(sentences[index], part, log_prior(part, source), floor)
            which.append(first + above)
            density.append(values)
        return torch.cat(which), torch.cat(density)

    found = integrals(log_joint, own[:, None], truth.spacing, truth.halfwidth, progress=progress)

    return found.nll, found.twice
