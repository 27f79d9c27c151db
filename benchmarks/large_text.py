"""Measures a training step, the importance-weighted likelihood and the preparation of documents.

The sizes are those of the paper's text data; the documents are random. For a step and for the likelihood, the benchmark
counts the arithmetic operations that are necessary. A multiplication and the addition after it count as two operations.
The benchmark compares the operations per second with those of `torch.mm`, PyTorch's matrix product. The rate of
`torch.mm` is measured before and after each measurement, since the speed of a shared machine changes within seconds.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks import measure, plain
from benchmarks.measure import Row, cpu
from duvae.config import Evaluation, Optimisation, Parts, PatientDecay, TextFile, TextNetworks, TextSource
from duvae.data import store, text
from duvae.data.splits import END, SPECIALS, START, Array, Documents
from duvae.inference.model_files import Description
from duvae.metrics.encoding import evaluating
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.networks.fast import products
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.training.steps import JointLoop, Updates, optimizer
from duvae.vae import VAE

CPU = torch.device("cpu")
RELEASED = 100
"""Number of samples of z that the code released with the paper decodes at a time."""
MUST, AIM = 0.78, 0.88
"""Lower bounds on a computation's rate divided by the rate of `torch.mm`.

The ratio must reach the first bound, and should reach the second bound.
"""


@dataclass(frozen=True)
class Text:
    """The sizes of a text data set and of the networks for this data set.

    Attributes:
        networks: Sizes of the networks.
        words: Number of words in the vocabulary.
        ids: Number of word ids of each document. The ids of `<s>` and `</s>`, the marks of start and end, are included.
        batch: Number of documents of a training step.
    """

    networks: TextNetworks
    words: int
    ids: int
    batch: int = 32

    def description(self) -> Description:
        """Returns the description of a model of this size and of the system `vae`; `build` creates the model."""
        return Description("vae", {}, Parts(init="paper").model_dump(), self.networks.model_dump(), self.words)

    def model(self) -> VAE:
        """Creates a VAE of this size with new weights."""
        torch.manual_seed(1)

        return self.description().build()[0]

    def documents(self, count: int) -> Documents:
        """Draws random documents of equal length. Their word frequencies are similar to those of a natural language."""
        ids = draw(count * self.ids, self.words).reshape(count, self.ids)
        ids[:, 0], ids[:, -1] = START, END

        return Documents.of(list(ids), np.full(count, -1))

    def step_operations(self) -> int:
        r"""The number of arithmetic operations of a training step: 511 billion at the Yahoo size (`YAHOO`).

        Only products with weight matrices count. Each product is computed three times: in the forward pass, for the
        gradient of its input, and for the gradient of its weights. The encoder's LSTM reads all ids. The decoder's LSTM
        reads all ids except the last, each together with z. After each id, the output layer computes one logit for each
        word of the vocabulary. So the number of operations is
        $3 \cdot 2 B [T \cdot 4H(E + H) + (T - 1)(4H(E + L + H) + HV)]$.
        B is the number of documents, T the number of ids of a document, and V the number of words in the vocabulary. E,
        H and L are the numbers of embedding, hidden and latent dimensions.
        """
        n, steps = self.networks, self.ids - 1
        encoder = self.ids * 4 * n.hidden * (n.embedding + n.hidden)
        decoder = steps * (4 * n.hidden * (n.embedding + n.latent + n.hidden) + n.hidden * self.words)

        return 3 * 2 * self.batch * (encoder + decoder)

    def sample_operations(self) -> int:
        r"""The number of arithmetic operations for log p(x|z) of one document x and one z: $2 (T - 1)(4H^2 + HV)$.

        `step_operations` explains the letters. The products with word embeddings are computed once for all samples of
        z, and the products with z once for all words. So neither of these products is counted.
        """
        return 2 * (self.ids - 1) * self.networks.hidden * (4 * self.networks.hidden + self.words)


YAHOO = Text(TextNetworks(embedding=512, hidden=1024, latent=32, dropout_in=0.5, dropout_out=0.5), 20_000, 81)
"""The size of the Yahoo data. A batch has 32 documents, and the decoder predicts 80 words of each document."""
SHORT_YELP = Text(TextNetworks(embedding=128, hidden=512, latent=32, dropout_in=0.5, dropout_out=0.5), 8411, 12)
"""The size of the short Yelp data. Each sentence has 10 words, the mean length of the sentences in the data."""


@dataclass(frozen=True)
class TextSize:
    """The sizes of the data and of the measurements.

    Attributes:
        large: Size of the data and networks with which a training step, its memory, and the likelihood are measured.
        small: Size of the data and networks with which the likelihood is compared with its plain form: slower code that
            follows the equations directly (see `benchmarks.plain`).
        rounds: Number of measurements of a training step.
        samples: Number K of importance samples for the likelihood of a document.
        documents: Number of documents whose likelihood is computed at the large size.
        sentences: Number of sentences whose likelihood is computed at the small size.
        repeats: Number of measurements of the likelihood.
        prepared: Number of training documents to prepare. The validation set and the test set each have a tenth of this
            number.
    """

    large: Text = YAHOO
    small: Text = SHORT_YELP
    rounds: int = 7
    samples: int = 500
    documents: int = 2
    sentences: int = 8
    repeats: int = 2
    prepared: int = 100_000


_NETWORKS = TextNetworks(embedding=6, hidden=8, latent=2, dropout_in=0.5, dropout_out=0.5)
TINY = TextSize(Text(_NETWORKS, 50, 9, 4), Text(_NETWORKS, 40, 5, 4), 1, 10, 2, 3, 1, 200)
"""The sizes with `--tiny`, which only tests the code of the benchmark."""


def draw(count: int, words: int) -> Array:
    """Draws random word ids, shape (count,). The later a word in the vocabulary, the rarer it is in the result."""
    share = 1 / np.arange(3.0, words - len(SPECIALS) + 3)

    return np.random.default_rng(1).choice(words - len(SPECIALS), count, p=share / share.sum()) + len(SPECIALS)


def step_call(size: Text) -> Callable[[], object]:
    """Returns a function that does one training step: forward pass, backward pass, clipping, SGD."""
    model = size.model()
    encoder, decoder = (
        optimizer(list(parameters), "sgd", 1.0)
        for parameters in (model.inference_parameters(), model.generative_parameters())
    )
    x = torch.from_numpy(size.documents(size.batch).batch(np.arange(size.batch))).long()
    updates, loop = Updates(model, encoder, decoder, 5.0, lambda: x), JointLoop()

    return lambda: loop.step(updates, x, 1.0)


def train(size: Text) -> None:
    """Trains for two short epochs, and saves states as a real training does.

    `measure.whole_peak` calls this function to measure the memory of a whole training.
    """
    model, system = size.description().build()
    decay = PatientDecay(kind="after_patience", factor=0.5, patience=5, not_before=16, at_most=5, reset=True)
    optimisation = Optimisation(
        optimiser="sgd", learning_rate=1.0, clip=5.0, batch=size.batch, epochs=2, warmup=0, decay=decay
    )
    evaluation = Evaluation(importance_samples=10, active_threshold=0.01, seed=1)
    valid = size.documents(size.batch)
    with tempfile.TemporaryDirectory(prefix="duvae-bench-") as folder:
        checkpoint = Checkpoint(Path(folder) / "state.safetensors", 30)
        Training(
            *(model, system.schedule, system.loop(), size.documents(2 * size.batch), valid, optimisation, evaluation),
            *(1, CPU, None, checkpoint),
        ).run()


def rates() -> tuple[float, float]:
    """Measures the rates, in GFLOP/s, at which `torch.mm` and the library oneDNN multiply two 1,024 x 1,024 matrices.

    Returns:
        The rate of `torch.mm` and the rate of oneDNN.
    """
    one, other = torch.rand(2, 1024, 1024).unbind()
    with torch.no_grad():
        products.product(one, other)
        seconds = median(cpu(lambda: products.product(one, other)) for _ in range(9))

    return measure.rate(), 2 * 1024**3 / seconds / 1e9


class TextBench:
    """The measurements on random text. Each group of rows in the table of results has a method of its own."""

    def __init__(self, size: TextSize) -> None:
        self.size = size

    def __call__(self) -> Iterator[Row]:
        """Measures and yields all rows on text.

        Each group of rows is measured in a new process, because memory left by earlier groups would change the times.
        """
        for group in (self.step, self.likelihood, self.speed_up):
            yield from measure.alone(group)
        yield from self.preparing()
        memory = measure.whole_peak(train, self.size.large)
        note = "peak of the whole process, with best weights and saved states"
        yield Row("step at the Yahoo size, memory", memory, "MiB", measure.rate(), must=1.4 * 1024, note=note)

    def step(self) -> Iterator[Row]:
        """Yields the rows on a training step. They compare its rate with the rates of matrix products."""
        size = self.size.large
        yield from compared_with_products(
            "step at the Yahoo size", step_call(size), size.step_operations(), self.size.rounds
        )

    def likelihood(self) -> Iterator[Row]:
        """Yields the rows on the importance-weighted likelihood. They compare its rate with that of matrix products."""
        size, count, samples = self.size.large, self.size.documents, self.size.samples
        model, documents = size.model(), size.documents(count)
        call = partial(importance_weighted_nll, model, documents, samples, CPU, 1)
        operations = count * samples * size.sample_operations()
        yield from compared_with_products(
            "importance-weighted NLL at the Yahoo size", call, operations, self.size.repeats
        )

    def speed_up(self) -> Iterator[Row]:
        """Yields rows that compare the importance-weighted likelihood with its plain form (see `TextSize.small`)."""
        size, samples = self.size.small, self.size.samples
        model, documents = size.model(), size.documents(self.size.sentences)
        fast = partial(importance_weighted_nll, model, documents, samples, CPU, 1)
        slow = partial(plain.importance_weighted_nll, model, documents, samples, 1, plain.whole_decoder, RELEASED)
        x = torch.from_numpy(documents.batch(np.arange(len(documents)))).long()
        z = torch.randn(3, len(x), size.networks.latent)
        with evaluating(model):
            one_by_one = torch.stack([plain.decoder(model).log_prob_plain(x, each) for each in z])
            difference = float((model.decoder.log_prob_samples(x, z) - one_by_one).abs().max())
        rate = measure.rate()
        rounds = [(cpu(fast), cpu(slow)) for _ in range(self.size.repeats)]
        name, each = "importance-weighted NLL at the short Yelp size", median(one for one, _ in rounds) / len(documents)
        yield Row(name, 1e3 * each, "ms", rate, note=f"one sentence of {size.ids - 2} words, K = {samples}")
        note = f"over sentence by sentence, the whole decoder for {RELEASED} samples at a time, side by side"
        yield Row(f"{name}, speed-up", median(b / a for a, b in rounds), "x", rate, must=1.3, least=True, note=note)
        yield Row(f"{name}, difference from the plain form", difference, "nats", rate, must=1e-3)

    def preparing(self) -> Iterator[Row]:
        """Yields the rows on preparing documents, that is, on turning text files into memory-mapped word ids."""
        count, words = self.size.prepared, self.size.large.words
        with tempfile.TemporaryDirectory(prefix="duvae-bench-") as folder:
            write_corpus(Path(folder), count, words)
            rate = measure.rate()
            seconds = measure.alone(partial(prepare, Path(folder), rate))
            memory = measure.whole_peak(prepare, Path(folder), rate)
        note = f"about 80 words each, {words} in the vocabulary, and {count // 10} each for validation and test"
        yield from (replace(row, name=f"preparing {count} documents", note=note) for row in seconds)
        note = "peak of the whole process"
        yield Row(f"preparing {count} documents, memory", memory, "MiB", rate, must=1024, note=note)


def compared_with_products(name: str, call: Callable[[], object], operations: int, rounds: int) -> list[Row]:
    """Measures a function, and compares its operations per second with those of `torch.mm` and oneDNN.

    Args:
        name: Name of the measurement.
        call: Function to measure.
        operations: Number of arithmetic operations that are necessary for the result of the function.
        rounds: Number of measurements.

    Returns:
        Three rows: the CPU seconds of the function, its rate divided by the rate of `torch.mm`, and its rate divided by
        the rate of oneDNN. A rate is a number of operations per second.
    """
    call()
    all_rates = [rates()]
    seconds = []
    for _ in range(rounds):
        seconds.append(cpu(call))
        all_rates.append(rates())
    means = [tuple((a + b) / 2 for a, b in zip(*pair, strict=True)) for pair in pairwise(all_rates)]
    by_mm, by_onednn = (
        median(operations / 1e9 / second / each[which] for second, each in zip(seconds, means, strict=True))
        for which in (0, 1)
    )
    rate, note = median(each[0] for each in means), f"{operations / 1e9:.0f} GFLOP of necessary arithmetic"
    onednn_note = f"oneDNN does {median(each[1] for each in means):.0f} GFLOP/s in the same product"

    return [
        Row(name, median(seconds), "s", rate, note=note),
        Row(f"{name}, share of the product's rate", by_mm, "x", rate, MUST, AIM, least=True, note="side by side"),
        Row(f"{name}, share of oneDNN's rate", by_onednn, "x", rate, note=onednn_note),
    ]


def write_corpus(folder: Path, train: int, words: int) -> None:
    """Writes text files of random documents for training, validation and test, and a file with their vocabulary.

    Args:
        folder: Folder of the files.
        train: Number of training documents. Validation and test each get a tenth of this number.
        words: Number of words in the vocabulary. Each document has 20 to 140 words.
    """
    lexicon = np.array([f"w{n}" for n in range(words - len(SPECIALS))])
    (folder / "vocabulary.txt").write_text("\n".join([*SPECIALS, *lexicon.tolist()]) + "\n", encoding="utf-8")
    lengths = np.random.default_rng(2).integers(20, 141, train + 2 * (train // 10))
    ends = np.cumsum(lengths).tolist()
    corpus = lexicon[draw(ends[-1], words) - len(SPECIALS)].tolist()
    lines = [" ".join(corpus[end - length : end]) for end, length in zip(ends, lengths.tolist(), strict=True)]
    tenth = train // 10
    for name, part in (("train", lines[2 * tenth :]), ("valid", lines[:tenth]), ("test", lines[tenth : 2 * tenth])):
        (folder / f"{name}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")


def prepare(folder: Path, rate: float) -> list[Row]:
    """Prepares the documents of `write_corpus` as the command `duvae prepare` does.

    Args:
        folder: Folder of the text files, in which the function writes the prepared data.
        rate: Rate of a matrix product, in GFLOP/s, which the row shows.

    Returns:
        One row with the CPU seconds of the preparation.
    """
    train, valid, test = ([TextFile(path=f"{name}.txt")] for name in ("train", "valid", "test"))
    source = TextSource(train=train, valid=valid, test=test, vocabulary="vocabulary.txt", max_words=200)
    seconds = cpu(lambda: store.write(folder / "prepared", text.prepared_text(source, folder)))

    return [Row("preparing", seconds, "s", rate, must=60)]
