"""A trained model in use: sentences or images in, codes out, and back.

```python
from duvae.inference.model import load

model = load("models/reviews/du_vae/1")
codes = model.encode(["the food was good .", "never again !"])  # codes.mean, codes.sigma, codes.features
```
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from duvae.data.store import END, PAD, SPECIALS, START, UNKNOWN, Array, Documents, Images, Split
from duvae.data.text import Lines, encode
from duvae.errors import UserError
from duvae.inference import generation, model_files
from duvae.inference.generation import LONGEST
from duvae.inference.model_files import Description
from duvae.metrics.encoding import map_batches, map_rows
from duvae.vae import VAE

if TYPE_CHECKING:
    import pandas as pd

VOCABULARY = "vocabulary.txt"
"""Beside a model's two files, or in the prepared data set that it was trained on."""

SHOWN = 5
"""Unknown words that a warning names."""


class UnknownWords(UserWarning):
    """Words that the vocabulary lacks, which are taken to be `<unk>`."""


@dataclass(frozen=True)
class Codes:
    r"""What q(z|x) of each example is.

    Attributes:
        mean: $\mu_x$ ($\mu^0$ of a flow), with shape (examples, latent).
        sigma: $\delta_x$ ($\delta^0$ of a flow), with shape (examples, latent); None where q is a point.
        features: What a linear probe sees: $\mu_x$; of a flow also the $z^T$ that $\mu^0$ is mapped to.
        unknown: Unknown words of each sentence, with shape (examples,); 0 for images.
    """

    mean: Array
    sigma: Array | None
    features: Array
    unknown: Array

    def frame(self) -> "pd.DataFrame":
        """A table with one row per example: `unknown`, `mu_0`, …, `sigma_0`, …, `feature_0`, ….

        This method alone needs pandas, which the extra `pipeline` installs.
        """
        import pandas as pd

        parts = {"mu": self.mean, "sigma": self.sigma, "feature": self.features}
        columns = {
            f"{name}_{d}": part[:, d] for name, part in parts.items() if part is not None for d in range(part.shape[1])
        }

        return pd.DataFrame({"unknown": self.unknown, **columns})


class Trained:
    """A trained model with what its x mean.

    Args:
        model: It.
        description: What it is.
        vocabulary: The words of the ids of a sentence; for images anything.
    """

    def __init__(self, model: VAE, description: Description, vocabulary: Sequence[str]) -> None:
        self.device = model_files.device()
        self.model, self.description, self.vocabulary = model.to(self.device), description, list(vocabulary)

    @property
    def latent(self) -> int:
        """Dimensions of z."""
        return int(self.description.networks["latent"])

    @property
    def size(self) -> int | None:
        """Pixels a side of an image; None where x are sentences."""
        return self.description.networks.get("size")

    def encode(self, x: Sequence[str] | Array, seed: int = 1) -> Codes:
        """q(z|x) of sentences, or of images.

        Args:
            x: Sentences, their words apart by white space; or shares of ink in [0, 1] of shape (images, size, size).
            seed: Of the bits that are drawn where pixels are neither 0 nor 1.

        Warns:
            UnknownWords: With their number, where there are any.
        """
        return self.codes(self.split(x), seed)

    def codes(self, split: Split, seed: int = 1) -> Codes:
        """q(z|x) of the examples of a split, in its order; `seed` is of bits that are drawn."""
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

    def z_of(self, split: Split, seed: int = 1) -> Float[Tensor, "examples latent"]:
        """The one z that stands for each example of a split, as `generation.means` has it."""
        generator = Generator(self.device).manual_seed(seed)

        def means(x: Tensor) -> Tensor:
            return generation.means(self.model, [x])

        parts, restored = map_batches(self.model, split, self.device, means, generator)

        return torch.cat(parts)[torch.from_numpy(restored)]

    def decode(
        self,
        z: Float[Tensor, "batch latent"],
        likely: bool = False,
        temperature: float = 1.0,
        seed: int = 1,
        longest: int = LONGEST,
    ) -> list[str] | Array:
        """A sentence of each z, or an image of bits with shape (batch, size, size).

        Args:
            z: What of.
            likely: Each word or pixel the likeliest, nothing drawn.
            temperature: Of the draws: the logits are divided by it.
            seed: Of the draws.
            longest: Ids of a sentence at most, `<s>` and `</s>` counted; what is not over by then is cut.
        """
        generator = Generator(self.device).manual_seed(seed)
        z = torch.as_tensor(z, dtype=torch.float32, device=self.device)

        return self.written(generation.decoded(self.model, z, generator, likely, temperature, longest))

    def generate(
        self, count: int, likely: bool = False, temperature: float = 1.0, seed: int = 1, longest: int = LONGEST
    ) -> list[str] | Array:
        """x of z drawn from the prior; the arguments are those of `decode`."""
        return self.written(generation.prior(self.model, count, self.latent, seed, likely, temperature, longest))

    def reconstruct(
        self,
        x: Sequence[str] | Array,
        likely: bool = True,
        temperature: float = 1.0,
        seed: int = 1,
        longest: int = LONGEST,
    ) -> list[str] | Array:
        """x of the posterior mean of each x; the arguments are those of `decode`."""
        return self.decode(self.z_of(self.split(x), seed), likely, temperature, seed, longest)

    def interpolate(
        self,
        one: str | Array,
        other: str | Array,
        steps: int = 8,
        likely: bool = True,
        temperature: float = 1.0,
        seed: int = 1,
        longest: int = LONGEST,
    ) -> list[str] | Array:
        """x of `steps` z in even steps from one x's posterior mean to another's; else as `decode`."""
        both = [one, other] if isinstance(one, str) and isinstance(other, str) else np.stack([one, other])
        ends = self.z_of(self.split(both), seed)[None]

        return self.written(generation.interpolations(self.model, ends, steps, seed, likely, temperature, longest))

    def split(self, x: Sequence[str] | Array, where: str = "sentences") -> Split:
        """Sentences or images as the networks take them.

        Args:
            x: As `encode` has them.
            where: What errors call them.

        Raises:
            UserError: Where they are not what the model reads.
        """
        if self.size is None:
            if isinstance(x, str) or not all(isinstance(sentence, str) for sentence in x):
                raise UserError(f"{where}: expected a list of sentences, which this model reads.")
            number = next((n for n, sentence in enumerate(x, 1) if not sentence.split()), None)
            if number is not None or not len(x):
                raise UserError(f"{where}{f', line {number}' if number else ''}: expected a sentence; found none.")
            rows = [" ".join(sentence.split()) for sentence in x]
            return self.documents(Lines(rows, [-1] * len(rows), [(Path(where), n) for n in range(1, len(rows) + 1)]))
        grey = np.asarray(x)
        shape = self.size, self.size
        if grey.dtype.kind not in "biuf" or grey.ndim != 3 or grey.shape[1:] != shape or not len(grey):
            raise UserError(
                f"expected images of {self.size} x {self.size} pixels, which this model reads, with the shape"
                f" (images, {self.size}, {self.size}); found {grey.dtype} of the shape {grey.shape}."
            )
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise UserError(f"expected shares of ink from 0 to 1; found {grey.min()} to {grey.max()}.")
        unlabelled = np.full(len(grey), -1)

        return Images.of(grey.astype(np.float32), unlabelled, unlabelled)

    def documents(self, lines: Lines) -> Documents:
        """Documents as word ids.

        Raises:
            UserError: For a document with `<pad>`, `<s>` or `</s>` inside.
        """
        found = encode(lines, self.vocabulary, max(document.count(" ") + 1 for document in lines.documents))
        known = set(self.vocabulary)
        unknown = Counter(word for document in lines.documents for word in document.split(" ") if word not in known)
        if unknown:
            named = ", ".join(word for word, _ in unknown.most_common(SHOWN))
            more = f" and {len(unknown) - SHOWN} others" if len(unknown) > SHOWN else ""
            warnings.warn(
                f"{unknown.total():,} of {int((found.lengths - 2).sum()):,} words are not in the vocabulary"
                f" ({named}{more}), and are {SPECIALS[UNKNOWN]}",
                UnknownWords,
                stacklevel=2,
            )

        return found

    def written(self, x: Tensor) -> list[str] | Array:
        """What the decoder gives as sentences, or as images with shape (images, size, size)."""
        if self.size is not None:
            return x[:, 0].cpu().numpy()

        return [
            " ".join(self.vocabulary[word] for word in sentence if word not in (PAD, START, END))
            for sentence in x.tolist()
        ]


def load(folder: str | Path, vocabulary: str | Path | None = None) -> Trained:
    """A trained model.

    Args:
        folder: With its `weights.safetensors` and `model.json`: `models/<data set>/<setting>/<seed>` of a project, or
            `model` of a run in MLflow.
        vocabulary: The words that it knows, a word a line; where it is not given, `vocabulary.txt` of that folder, or
            of the project's prepared data set. Images need none.

    Raises:
        UserError: Where it is no such model, or its vocabulary is not to be found or another's.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise UserError(
            f"{folder / 'model.json'}: not there. Expected a model's folder: models/<data set>/<setting>/<seed>, as"
            " 'duvae train' writes it, or 'model' of a run in MLflow."
        )
    model, description = model_files.load(folder)
    if "size" in description.networks:
        return Trained(model, description, [])

    return Trained(model, description, words(folder, description.words, vocabulary))


def words(folder: Path, count: int, given: str | Path | None = None) -> list[str]:
    """The vocabulary of a model, once it is seen to have as many words as the model knows."""
    above = folder.resolve().parents  # setting, data set, models, project
    places = [Path(given)] if given is not None else [folder / VOCABULARY]
    if given is None and len(above) > 3:
        places.append(above[3] / "data" / "prepared" / above[1].name / VOCABULARY)
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        raise UserError(
            f"{folder}: expected the model's vocabulary, a word a line, in {' or '.join(map(str, places))}; it is not"
            " there. Copy it from data/prepared/<data set>."
        )
    try:
        found = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    if len(found) != count or tuple(found[: len(SPECIALS)]) != SPECIALS:
        raise UserError(
            f"{path}: expected the {count} words that the model knows, {', '.join(SPECIALS)} first; found {len(found)}."
            " It is another model's."
        )

    return found
