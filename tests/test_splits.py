"""Splits (training, validation and test sets) of texts and of images behave alike.

The tests cover batches, binary images drawn at each use, and trainings on images that resume with the same bits.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import drawings
from duvae.commands import evaluate, probe
from duvae.data import store
from duvae.data.batches import Examples, batches, tensor
from duvae.data.enough import require_probe
from duvae.data.images import drawn_bits
from duvae.data.splits import PIXELS, Documents, Images, Split, unseen
from duvae.data.store import Prepared
from duvae.errors import Interrupted, UserError
from duvae.metrics.encoding import encode, features
from duvae.metrics.likelihood import importance_weighted_nll, nll_indices, perplexity
from duvae.metrics.statistics import standard_error
from duvae.networks.bodies import Decoder, Encoder
from duvae.project import array_files
from duvae.training.checkpoints import Checkpoint
from duvae.training.loop import Training
from duvae.training.state import NoProgress
from duvae.vae import VAE
from family import CPU, FULL_SIZE, PARAMS, describe, documents, same, setting, state


class Flat(Encoder):
    """An encoder that applies one linear map to the pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.features = 8
        self.linear = nn.Linear(pixels, self.features)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


class Pixels(Decoder):
    """A decoder whose pixels are independent given z."""

    def __init__(self, pixels: int, latent: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent, pixels)

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        return -binary_cross_entropy_with_logits(self.linear(z), x.flatten(1), reduction="none").sum(-1)

    def log_prob_samples(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.stack([self.log_prob(x, sample) for sample in z])

    def units(self, x: Tensor) -> int:
        return len(x)

    def sample(self, z: Tensor, generator: torch.Generator | None = None, likely: bool = False) -> Tensor:
        p = torch.sigmoid(self.linear(z)).view(len(z), 1, 6, 6)

        return (p > 0.5).float() if likely else torch.bernoulli(p, generator=generator)


def image_model(system: str = "vae", seed: int = 1) -> tuple[VAE, Any]:
    torch.manual_seed(seed)
    made = describe(system).build()[1]
    encoder = Flat(36)

    return VAE(encoder, made.head(encoder.features, 3), Pixels(36, 3), made.objective()), made


# ------------------------------------------------------------------------------------ batches


def test_documents_are_what_they_were_and_take_no_random_numbers() -> None:
    split = documents(40)
    before = torch.get_rng_state()
    for indices in batches(split.lengths, 8, (1, 1)):
        x = tensor(split, indices, CPU)
        assert x.dtype == torch.int64
        assert x.tolist() == [split[n].tolist() for n in indices.tolist()]
    assert torch.equal(torch.get_rng_state(), before)
    assert not split.is_grey
    assert split.predicted.tolist() == [len(split[n]) - 1 for n in range(40)]


def test_bits_that_were_drawn_stay_as_they_are() -> None:
    split = drawn_bits(drawings.grey(9), np.random.default_rng(1))
    before = torch.get_rng_state()
    x = tensor(split, np.array([3, 0]), CPU)

    assert x.dtype == torch.float32
    assert x[:, 0].tolist() == split.pixels[[3, 0]].tolist()
    assert torch.equal(torch.get_rng_state(), before)


def test_grey_pixels_give_other_bits_at_each_use() -> None:
    """Each use of grey pixels draws other bits. The mean of 20,000 draws is near each pixel's grey value.

    The two differ by at most five standard errors.
    """
    split = drawings.grey(3)
    torch.manual_seed(1)
    drawn = torch.stack([tensor(split, np.array([2, 0]), CPU) for _ in range(20000)])
    grey = split.pixels[[2, 0]][:, None]

    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(drawn[0], drawn[1])
    error = np.sqrt(grey * (1 - grey) / 20000)
    assert (np.abs(drawn.mean(0).numpy() - grey) < 5 * error + 1e-6).all()


def test_the_same_generator_gives_the_same_bits() -> None:
    split = drawings.grey(9)
    one, again, other = (tensor(split, np.arange(9), CPU, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))

    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("made", [lambda: documents(40), lambda: drawings.grey(40), lambda: drawn_once(40)])
def test_a_split_that_lies_on_the_device_gives_the_same_batches(made: Callable[[], Split]) -> None:
    split = made()
    resident, copied = Examples(split, CPU, resident=True), Examples(split, CPU)
    assert copied.values is None  # without `resident`, the values stay in the file
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    for indices in batches(split.lengths, 8, (1, 1)):
        x, same_x = resident(indices, one), copied(indices, other)
        assert x.dtype == same_x.dtype
        assert torch.equal(x, same_x)
    assert torch.equal(one.get_state(), other.get_state())


def drawn_once(count: int) -> Split:
    return drawn_bits(drawings.grey(count), np.random.default_rng(1))


# ------------------------------------------------------------------------------------ training


class StopAfter(NoProgress):
    """Stops a training after `steps` steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, epoch: int, batch: int, batches: int) -> bool:
        self.left -= 1
        return not self.left


def image_training(folder: Path | None = None, steps: int = 0, system: str = "vae") -> Training:
    model, made = image_model(system)
    optimisation = FULL_SIZE.dataset("omniglot").optimisation.model_copy(update={"batch": 8, "epochs": 3, "warmup": 1})
    valid = drawn_bits(drawings.grey(12, seed=2), np.random.default_rng(1))
    checkpoint = Checkpoint(folder / "state.safetensors", 1e9) if folder else None

    return Training(
        model,
        made.schedule,
        made.loop(),
        drawings.grey(30),
        valid,
        optimisation,
        PARAMS.evaluation,
        1,
        progress=StopAfter(steps),
        checkpoint=checkpoint,
    )


@pytest.mark.parametrize("system", ["vae", "agg_vae", "du_vae"])
def test_a_training_on_images_goes_on_to_the_bit(tmp_path: Path, system: str) -> None:
    """A training that is stopped after every few batches gives the same history and weights as an undisturbed one.

    The stops also fall within epochs, so the resumed training must draw the same binary images.
    """
    undisturbed = image_training(system=system)
    history = undisturbed.run().history
    stopped = 0
    while True:
        run = image_training(tmp_path, 3, system)
        try:
            again = run.run().history
            break
        except Interrupted:
            stopped += 1

    assert stopped >= 3
    assert again == history
    assert same(state(run.model), state(undisturbed.model))


def test_an_epoch_has_every_image_once_with_new_bits() -> None:
    run = image_training()
    seen: list[Tensor] = []
    step = run.loop.step
    run.loop.step = lambda updates, x, weight: (seen.append(x), step(updates, x, weight))[1]  # type: ignore[method-assign]
    run.run()
    epochs = [torch.cat(seen[n : n + 4]) for n in (0, 4, 8)]

    assert [len(epoch) for epoch in epochs] == [30, 30, 30]
    sums = [sorted(tuple(row) for row in epoch.flatten(1).tolist()) for epoch in epochs]
    assert sums[0] != sums[1] != sums[2]


# ------------------------------------------------------------------------------------ metrics


def test_grey_images_are_encoded_with_the_seeds_bits() -> None:
    model, _ = image_model()
    split = drawings.grey(20)
    one, again, other = (encode(model, split, CPU, seed) for seed in (1, 1, 2))

    assert (one.mean == again.mean).all()
    assert not (one.mean == other.mean).all()
    assert (features(model, split, CPU, 1) == features(model, split, CPU, 1)).all()
    assert not (features(model, split, CPU, 1) == features(model, split, CPU, 2)).all()


@pytest.mark.parametrize("what", ["documents", "images"])
def test_features_are_those_of_encoding(what: str) -> None:
    if what == "documents":
        model, split = describe("vae").build()[0], documents(23)
    else:
        model, split = image_model()[0], drawn_bits(drawings.grey(23), np.random.default_rng(1))

    np.testing.assert_array_equal(features(model, split, CPU), encode(model, split, CPU, 1).mean)


def test_the_likelihood_of_images() -> None:
    """The estimated NLL equals a sum over pixels if the posterior is the prior and the decoder ignores z."""
    model, _ = image_model()
    split = drawn_bits(drawings.grey(11), np.random.default_rng(1))
    with torch.no_grad():
        model.decoder.linear.weight.zero_()  # type: ignore[union-attr, operator]
        model.head.linear.weight.zero_()  # type: ignore[union-attr, operator]
    nll = importance_weighted_nll(model, split, 7, CPU, 1)
    p = torch.sigmoid(model.decoder.linear.bias).detach().numpy()  # type: ignore[union-attr, arg-type]
    bits = split.pixels.reshape(11, -1)
    wanted = -(bits * np.log(p) + (1 - bits) * np.log(1 - p)).sum(1)

    np.testing.assert_allclose(nll, wanted, rtol=1e-5)
    assert perplexity(nll, split) == pytest.approx(float(np.exp(wanted.sum() / (11 * 36))), rel=1e-5)


@pytest.mark.parametrize(("wanted", "count"), [(None, 30), (7, 7), (30, 30), (99, 30)])
def test_some_examples(wanted: int | None, count: int) -> None:
    chosen = nll_indices(30, wanted, 1)

    assert len(set(chosen.tolist())) == len(chosen) == count
    assert chosen.tolist() == sorted(chosen.tolist()) == nll_indices(30, wanted, 1).tolist()
    if count < 30:
        assert chosen.tolist() != nll_indices(30, wanted, 2).tolist()


@pytest.mark.parametrize("examples", [None, 15])
def test_the_likelihood_of_some_test_examples(tmp_path: Path, examples: int | None, monkeypatch: Any) -> None:
    """The key `nll_examples` chooses a part of the test examples for the NLL, its standard error and the perplexity.

    All other metrics are of all test examples. None: the NLL is of all examples too.
    """
    chosen = PARAMS.dataset("synthetic").model_copy(update={"nll_examples": examples})
    params = PARAMS.model_copy(update={"datasets": {**PARAMS.datasets, "synthetic": chosen}})
    test = documents(40)
    description = describe("vae")
    model, _ = description.build()
    splits = {"train": documents(10), "test": test}  # the seed is the same, so training has ten of the test sentences
    prepared = Prepared([f"w{n}" for n in range(description.words)], splits, {})
    monkeypatch.setattr(store, "read", lambda *_: prepared)
    monkeypatch.setattr(evaluate.model_files, "load", lambda *_: (model.eval(), description))
    evaluate.run(params, "synthetic", setting("vae"), 1, tmp_path)
    metrics = json.loads((tmp_path / "results/synthetic/vae/1/metrics.json").read_text())
    _, kept = array_files.read(tmp_path / "results/synthetic/vae/1/per_example.json", "")
    known, indices = kept["nll"].astype(np.float64), np.cumsum(kept["steps"])
    part = test.only(indices)

    assert metrics["nll_examples"] == len(known) == (examples or 40)
    assert metrics["sentences"] == 40
    assert metrics["nll"] == pytest.approx(known.mean(), rel=1e-6)
    assert metrics["nll_stderr"] == pytest.approx(standard_error(known), rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(perplexity(known, part), rel=1e-6)
    trained_on = {tuple(splits["train"][n]) for n in range(10)}
    new = np.array([tuple(part[n]) not in trained_on for n in range(len(part))])
    assert 0 < new.sum() < len(part)
    assert kept["unseen"].tolist() == new.tolist()
    assert metrics["unseen"] == new.sum()
    assert metrics["nll_unseen"] == pytest.approx(known[new].mean(), rel=1e-6)
    assert metrics["nll_unseen_stderr"] == pytest.approx(standard_error(known[new]), rel=1e-6)


def test_unseen_examples() -> None:
    """A sentence is seen only if the training set has exactly its words, in their order and without others."""
    training = Documents.of([[1, 5, 6, 2], [1, 7, 2]], [0, 1])
    test = Documents.of([[1, 6, 5, 2], [1, 5, 6, 2], [1, 5, 2], [1, 7, 2], [1, 5, 6, 6, 2]], [1, 1, 1, 0, 0])

    assert unseen(test, training).tolist() == [True, False, True, False, True]
    assert unseen(test, Documents.of([], [])).all()
    assert unseen(test.only(np.array([1])), test).tolist() == [False]


def test_unseen_images_are_those_of_other_grey_values() -> None:
    """The bits of an image are different draws, but its grey values tell that it is the image of the training set."""
    grey = lettered(6, 3, 3, 1)
    test = drawn_bits(grey.only(np.array([4, 2])), np.random.default_rng(1))
    changed = grey.pixels[[4, 2]].copy()
    changed[1, 0, 0] += 0.25
    other = drawn_bits(Images.of(changed, np.zeros(2, int), np.zeros(2, int)), np.random.default_rng(1))

    assert unseen(test, grey).tolist() == [False, False]
    assert unseen(other, grey).tolist() == [False, True]


# ------------------------------------------------------------------------------------ probes


def lettered(count: int, characters: int, alphabets: int, seed: int) -> Images:
    """Images of characters with labels and alphabets. Each character has its own pattern, with a little noise."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(0).random((characters, 6, 6)) > 0.5
    labels = np.arange(count) % characters
    grey = np.abs(patterns[labels] - 0.02 * random.random((count, 6, 6)))

    return Images.of(grey, labels, labels % alphabets)


def alphabets(change: Callable[[Images], Images] = lambda split: split) -> Prepared:
    """A data set of three alphabets, of which a test may change the test split."""
    splits = {
        "train": lettered(36, 9, 3, 1),
        "valid": drawn_bits(lettered(9, 9, 3, 2), np.random.default_rng(1)),
        "test": change(drawn_bits(lettered(18, 9, 3, 3), np.random.default_rng(2))),
    }
    return Prepared(list(PIXELS), splits, {"alphabets": ["a", "b", "c"]})


def table3(counts: tuple[int, ...] = (2, 5)) -> dict[str, Any]:
    return probe.by_character(image_model()[0].eval(), alphabets(), list(counts), PARAMS, "omniglot")


def test_each_alphabet_is_probed_on_its_own() -> None:
    said = table3()

    assert said["alphabets"] == 3
    assert said["test"] == 18
    assert said["largest_class"] == pytest.approx(100 / 3)
    assert [len(said["by_labels"][size]["draws"]) for size in ("2", "5")] == [2, 1]  # 5 are all images
    for accuracy in said["by_labels"].values():
        assert accuracy["accuracy"] == pytest.approx(np.mean(list(accuracy["by_alphabet"].values())))
        assert accuracy["accuracy"] == pytest.approx(np.mean(accuracy["draws"]))
        assert set(accuracy["by_alphabet"]) == {"a", "b", "c"}
    assert said["by_labels"]["5"]["accuracy"] > 60  # chance gives 33: an alphabet has three characters
    assert said == table3()


def test_images_without_alphabets_cannot_be_probed_by_character() -> None:
    dataset = PARAMS.dataset("omniglot")
    require_probe(alphabets(), dataset, "omniglot")
    with pytest.raises(UserError, match="expected a character and an alphabet for every image of test"):
        require_probe(
            alphabets(lambda split: dataclasses.replace(split, groups=np.full(len(split), -1))), dataset, "omniglot"
        )
    with pytest.raises(UserError, match="at least one test image in each alphabet; found 3 and 0 in c"):
        require_probe(alphabets(lambda split: split.only(np.flatnonzero(split.groups < 2))), dataset, "omniglot")
