"""Uses a trained model to encode sentences or images into latent codes, and to decode codes.

```python
from duvae.inference.model import load

model = load("models/reviews/du_vae/1")
codes = model.encode(["the food was good .", "never again !"])  # codes.mean, codes.sigma, codes.features
```
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from duvae.data.corpus import Corpus
from duvae.data.splits import END, PAD, SPECIALS, START, UNKNOWN, Array, Documents, Images, Split
from duvae.data.vocabulary import word_ids
from duvae.errors import UserError
from duvae.inference import collapse, decoding, generation, model_files
from duvae.inference.decoding import MAX_WORDS
from duvae.inference.model_files import Description
from duvae.inference.options import Decoding
from duvae.inference.vocabulary_files import longest_document, read_vocabulary, vocabulary_path
from duvae.messages import show_name
from duvae.metrics.encoding import map_batches, map_rows
from duvae.vae import VAE

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN_SHOWN = 5
"""Largest number of unknown words that a warning names."""


class UnknownWords(UserWarning):
    """Warns that some words are not in the vocabulary; the model reads `<unk>` in place of these words."""


@dataclass(frozen=True)
class Codes:
    r"""The parameters of q(z|x) for each example.

    Attributes:
        mean: Means $\mu_x$, shape (examples, latent). A posterior that is a flow transforms a Gaussian $z^0$ into
            $z^T$. For a flow, `mean` holds the means $\mu^0$ of $z^0$.
        sigma: Standard deviations $\delta_x$ (for a flow, $\delta^0$ of $z^0$), shape (examples, latent). None: q(z|x)
            has all probability at one point.
        features: Input of a linear probe (a linear classifier of the codes), shape (examples, features). The features
            are $\mu_x$. For a flow, they are $\mu^0$ joined with the $z^T$ that the flow computes from $\mu^0$.
        unknown: Number of unknown words in each sentence, shape (examples,); 0 for images.
    """

    mean: Array
    sigma: Array | None
    features: Array
    unknown: Array

    def frame(self) -> "pd.DataFrame":
        """Builds a table with one row per example and the columns `unknown`, `mu_0`, …, `sigma_0`, …, `feature_0`, ….

        This is the only method that needs pandas. The optional extra `pipeline` of the package installs pandas.
        """
        import pandas as pd

        arrays = {"mu": self.mean, "sigma": self.sigma, "feature": self.features}
        columns = {
            f"{name}_{d}": array[:, d]
            for name, array in arrays.items()
            if array is not None
            for d in range(array.shape[1])
        }

        return pd.DataFrame({"unknown": self.unknown, **columns})


class TrainedModel:
    """A trained model together with its vocabulary, on the GPU if there is one.

    Args:
        model: The trained VAE; it moves to the GPU, if there is one.
        description: The description of the model, from its `model.json`.
        vocabulary: Words in the order of their ids; not used for images.
        max_words: Largest number of words of a sentence that the model writes, such as that of its data set; not used
            for images.
    """

    def __init__(
        self, model: VAE, description: Description, vocabulary: Sequence[str], max_words: int = MAX_WORDS
    ) -> None:
        self.device = model_files.device()
        self.model, self.description, self.vocabulary = model.to(self.device), description, list(vocabulary)
        self.max_words = max_words

    @property
    def latent(self) -> int:
        """Number of dimensions of z."""
        return int(self.description.networks["latent"])

    @property
    def size(self) -> int | None:
        """Width and height of an image in pixels; None if the model was trained on sentences."""
        return self.description.networks.get("size")

    def encode(self, x: Sequence[str] | Array, seed: int = 1) -> Codes:
        """Encodes sentences or images into the parameters of q(z|x).

        Args:
            x: Sentences with white space between the words, or images of shape (images, size, size). The value of a
                pixel is the share of ink in it, from 0 to 1.
            seed: Seed of the bits that are drawn from grey pixels, whose values are neither 0 nor 1.

        Raises:
            UserError: If the model was trained on examples of another kind or size, or if an example is not valid.

        Warns:
            UnknownWords: Some words are not in the vocabulary.
        """
        return self.codes(self.to_split(x), seed)

    def codes(self, split: Split, seed: int = 1) -> Codes:
        """Encodes the examples of a split.

        Args:
            split: Examples to encode, such as the split that `to_split` returns.
            seed: Seed of the bits that are drawn from grey pixels.

        Returns:
            The codes, in the order of the examples.
        """
        generator = Generator(self.device).manual_seed(seed)

        def values(x: Tensor) -> dict[str, Tensor]:
            posterior = self.model.posterior(x)
            rows = {"mean": posterior.mean, "features": posterior.features()}

            return rows if posterior.variance is None else {**rows, "sigma": posterior.variance.sqrt()}

        arrays = map_rows(self.model, split, self.device, values, generator)
        unknown = np.zeros(len(split), np.int64)
        if isinstance(split, Documents):
            unknown = np.array([np.count_nonzero(split[n] == UNKNOWN) for n in range(len(split))], np.int64)

        return Codes(arrays["mean"], arrays.get("sigma"), arrays["features"], unknown)

    def posterior_means(self, split: Split, seed: int = 1) -> Float[Tensor, "examples latent"]:
        r"""Computes the posterior mean of each example. For a flow, the result is the $z^T$ computed from $\mu^0$.

        Args:
            split: Examples to encode, such as the split that `to_split` returns.
            seed: Seed of the bits that are drawn from grey pixels.

        Returns:
            The means, in the order of the examples.
        """
        generator = Generator(self.device).manual_seed(seed)

        def means(x: Tensor) -> Tensor:
            return generation.means(self.model, [x])

        parts, restored = map_batches(self.model, split, self.device, means, generator)

        return torch.cat(parts)[torch.from_numpy(restored)]

    def decode(
        self, z: Float[Tensor, "batch latent"], seed: int = 1, max_words: int | None = None, **options: Any
    ) -> list[str] | Array:
        """Decodes each z into a sentence or an image.

        For example, `decode(z, likely=True)` takes the likeliest word each time, and `decode(z, top_p=0.9)` draws from
        the likeliest words.

        Args:
            z: Latent codes to decode, shape (batch, latent).
            seed: Seed of the draws.
            max_words: Largest number of words of a sentence; a longer one is cut. None: as many words as the longest
                document of the model's data set has, or `MAX_WORDS` if the data set is not at hand.
            options: Attributes of `duvae.inference.options.Decoding`, which choose each word or pixel. Without them,
                words or pixels are drawn from p(x|z).

        Returns:
            The sentences, or images of bits, shape (batch, size, size).

        Raises:
            UserError: If an option is out of range, excludes another one, or has no meaning for images.
        """
        chosen, most = Decoding(**options), max_words or self.max_words
        generator = Generator(self.device).manual_seed(seed)
        z = torch.as_tensor(z, dtype=torch.float32, device=self.device)

        return self.to_examples(decoding.decode(self.model, z, chosen, generator, most))

    def generate(self, count: int, seed: int = 1, max_words: int | None = None, **options: Any) -> list[str] | Array:
        """Decodes `count` samples of the prior.

        `seed` is the seed of the samples z and of the draws of words or pixels. The arguments `max_words` and `options`
        have the same meaning as in `decode`, and the returned examples have the same form.
        """
        chosen, most = Decoding(**options), max_words or self.max_words

        return self.to_examples(decoding.prior(self.model, count, self.latent, seed, chosen, most))

    def reconstruct(
        self, x: Sequence[str] | Array, seed: int = 1, max_words: int | None = None, **options: Any
    ) -> list[str] | Array:
        """Decodes the posterior mean of each sentence or image in `x`.

        Without the options `temperature`, `top_p`, `beams` and `likely=False`, each word or pixel is the likeliest one.
        `x` has the same meaning as in `encode`. `seed` is the seed of the draws of words or pixels, and also of the
        bits that are drawn from grey pixels. All other arguments have the same meaning as in `decode`, and the returned
        examples have the same form.
        """
        chosen = _or_likeliest(options)

        return self.decode(self.posterior_means(self.to_split(x), seed), seed, max_words, **vars(chosen))

    def interpolate(
        self,
        first: str | Array,
        last: str | Array,
        steps: int = 8,
        seed: int = 1,
        max_words: int | None = None,
        **options: Any,
    ) -> list[str] | Array:
        """Decodes points on the line between the posterior means of two sentences or two images.

        Args:
            first: Sentence or image to start from; an image has shape (size, size).
            last: Sentence or image to end at.
            steps: Number of points on the line, including both ends.
            seed: Seed of the draws, and of the bits that are drawn from grey pixels.
            max_words: Largest number of words of a sentence, as in `decode`.
            options: Options as in `decode`. Without `temperature`, `top_p`, `beams` and `likely=False`, each word or
                pixel is the likeliest one.

        Returns:
            The sentences, or images of bits, shape (steps, size, size).
        """
        chosen, most = _or_likeliest(options), max_words or self.max_words
        both = [first, last] if isinstance(first, str) and isinstance(last, str) else np.stack([first, last])
        ends = self.posterior_means(self.to_split(both), seed)[None]

        return self.to_examples(decoding.interpolations(self.model, ends, steps, seed, chosen, most))

    def to_split(self, x: Sequence[str] | Array, where: str = "sentences") -> Split:
        """Converts sentences or images to the form that the networks read.

        Args:
            x: Sentences or images, as in `encode`.
            where: Name of the sentences in error messages, such as the command-line option that gave the sentences.

        Raises:
            UserError: If the model was trained on examples of another kind or size, or if an example is not valid.
        """
        if self.size is None:
            if isinstance(x, str) or not all(isinstance(sentence, str) for sentence in x):
                raise UserError(f"{where}: expected a list of sentences, since the model was trained on sentences.")
            number = next((n for n, sentence in enumerate(x, 1) if not sentence.split()), None)
            if number is not None or not len(x):
                raise UserError(f"{where}{f', line {number}' if number else ''}: expected a sentence; found none.")
            rows = [" ".join(sentence.split()) for sentence in x]
            return self.documents(Corpus(rows, [-1] * len(rows), [(Path(where), n) for n in range(1, len(rows) + 1)]))
        grey = np.asarray(x)
        shape = self.size, self.size
        if grey.dtype.kind not in "biuf" or grey.ndim != 3 or grey.shape[1:] != shape or not len(grey):
            raise UserError(
                f"expected images of {self.size} x {self.size} pixels, as in training, with the shape (images,"
                f" {self.size}, {self.size}); found {grey.dtype} of the shape {grey.shape}."
            )
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise UserError(f"expected shares of ink from 0 to 1; found {grey.min()} to {grey.max()}.")
        unlabelled = np.full(len(grey), -1)

        return Images.of(grey.astype(np.float32), unlabelled, unlabelled)

    def documents(self, corpus: Corpus) -> Documents:
        """Converts documents to word ids. A word that is not in the vocabulary becomes `<unk>`.

        Raises:
            UserError: If a document contains `<pad>`, `<s>` or `</s>`.

        Warns:
            UnknownWords: Some words are not in the vocabulary.
        """
        found = word_ids(corpus, self.vocabulary, max(document.count(" ") + 1 for document in corpus.documents))
        known = set(self.vocabulary)
        unknown = Counter(word for document in corpus.documents for word in document.split(" ") if word not in known)
        if unknown:
            named = ", ".join(show_name(word) for word, _ in unknown.most_common(UNKNOWN_SHOWN))
            more = f" and {len(unknown) - UNKNOWN_SHOWN} others" if len(unknown) > UNKNOWN_SHOWN else ""
            warnings.warn(
                f"{unknown.total():,} of {int((found.lengths - 2).sum()):,} words are not in the vocabulary"
                f" ({named}{more}); the model reads {SPECIALS[UNKNOWN]} in their place",
                UnknownWords,
                stacklevel=2,
            )

        return found

    def to_examples(self, x: Tensor) -> list[str] | Array:
        """Converts the output of the decoder to sentences, or to images of shape (images, size, size)."""
        if self.size is not None:
            return x[:, 0].cpu().numpy()

        return [
            " ".join(self.vocabulary[word] for word in sentence if word not in (PAD, START, END))
            for sentence in x.tolist()
        ]


def _or_likeliest(options: Mapping[str, Any]) -> Decoding:
    """The options as an object. If nothing else is asked for, each word or pixel is the likeliest one."""
    chosen = Decoding(**options)

    return chosen if "likely" in options else chosen.or_likeliest()


def load(folder: str | Path, vocabulary: str | Path | None = None) -> TrainedModel:
    """Loads a trained model.

    Args:
        folder: The folder with `weights.safetensors` and `model.json`. It is `models/<data set>/<setting>/<seed>` in a
            project, or the folder `data/model` of a logged model in MLflow. A setting is a system, such as DU-VAE, with
            its hyperparameters.
        vocabulary: A text file with one word per line, in the order of the word ids. None: `vocabulary.txt` in the
            model's folder or, if that file is missing, in the folder `data/prepared/<data set>` of the model's project.
            A model of images needs no vocabulary.

    Raises:
        UserError: If the folder has no readable model, or if the vocabulary is missing or does not fit the model.

    Warns:
        Collapsed: The model has collapsed, as its evaluation in the same project or run shows.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise UserError(
            f"{folder / 'model.json'}: not there. Expected a model's folder: models/<data set>/<setting>/<seed>, as"
            " 'duvae train' writes it, or 'data/model' of a logged model in MLflow."
        )
    if warning := collapse.message(folder):
        warnings.warn(warning, collapse.Collapsed, stacklevel=2)
    model, description = model_files.load(folder)
    if "size" in description.networks:
        return TrainedModel(model, description, [])
    path = vocabulary_path(folder, vocabulary)

    return TrainedModel(model, description, read_vocabulary(path, description.words), longest_document(path.parent))
