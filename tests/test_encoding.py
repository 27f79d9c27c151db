import numpy as np
import pytest
import torch

from duvae.data.batches import tensor
from duvae.data.splits import Documents
from duvae.metrics import encoding
from duvae.metrics.encoding import encode, evaluating, features
from duvae.posteriors import standard_normal_log_prob
from family import CPU, NAMES, build, documents, lively, same, state

everyone = pytest.mark.parametrize("name", NAMES)


def one(split: Documents, index: int) -> Documents:
    return Documents.of([split[index]], [int(split.labels[index])])


@everyone
def test_no_logits_are_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits of 256 documents of Yahoo would take gigabytes."""
    model = build(name)[0]
    monkeypatch.setattr(model.decoder, "log_prob", None)

    assert np.isfinite(encode(model, documents(5), CPU, seed=1).reconstruction).all()


@everyone
@pytest.mark.parametrize("at_once", [1, 4, 256])
def test_each_document_stands_at_its_place(name: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example is encoded as if it were alone, for lengths in any order and for any batch size."""
    monkeypatch.setattr(encoding, "BATCH", at_once)
    model, split = lively(build(name)[0]), documents(23)
    model.start()
    model.loss(torch.from_numpy(one(split, 0).batch(np.array([0]))).long(), 1.0)
    encoded = encode(model, split, CPU, seed=1)
    model.eval()
    for index in range(len(split)):
        alone, again = (encode(model, one(split, index), CPU, seed=seed) for seed in (1, 2))
        exact = alone.kl == again.kl
        for key in ("mean", "variance", *(("kl",) if exact else ())):
            array = getattr(encoded, key)
            assert (array is None) == (getattr(alone, key) is None)
            if array is not None:
                np.testing.assert_allclose(array[index], getattr(alone, key)[0], rtol=1e-4, atol=1e-6)
        x = torch.from_numpy(split[index][None]).long()
        with torch.no_grad():
            z = torch.from_numpy(encoded.z[index : index + 1])
            reconstruction = -model.decoder.log_prob(x, z)
            if not exact:  # an estimate from the returned sample
                kl = model.posterior(x).log_prob(z) - standard_normal_log_prob(z)
                assert encoded.kl[index] == pytest.approx(float(kl), abs=1e-4)
        assert encoded.reconstruction[index] == pytest.approx(float(reconstruction), rel=1e-5)


@everyone
def test_the_noise_is_the_seeds(name: str) -> None:
    model, split = lively(build(name)[0]), documents(23)
    one_seed, other_seed = encode(model, split, CPU, seed=1), encode(model, split, CPU, seed=2)
    dense = one_seed.variance is not None

    assert (one_seed.mean == other_seed.mean).all()
    assert (one_seed.z == other_seed.z).all() != dense
    if "mi" in one_seed.measured:  # z itself is Gaussian
        noise = (one_seed.z - one_seed.mean) / np.sqrt(one_seed.variance)
        assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
        assert len(np.unique(noise.round(6))) == noise.size


@everyone
def test_features_are_those_of_the_posterior_without_decoding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing them changes nothing in the model, in either mode."""
    model, split = lively(build(name)[0]), documents(23)
    model.start()
    model.loss(torch.from_numpy(one(split, 0).batch(np.array([0]))).long(), 1.0)
    before = state(model)
    with evaluating(model):
        alone = [model.posterior(tensor(split, np.array([n]), CPU)).features() for n in range(len(split))]
    for way in ("log_prob", "log_prob_samples"):
        monkeypatch.setattr(model.decoder, way, None)

    result = features(model, split, CPU)
    np.testing.assert_allclose(result, torch.cat(alone).numpy(), rtol=1e-4, atol=1e-5)
    assert np.array_equal(result, features(model.eval(), split, CPU))
    assert same(before, state(model))


def test_the_mode_comes_back_also_after_an_error() -> None:
    model, _ = build("vae")
    for mode in (True, False):
        model.train(mode)
        with evaluating(model):
            assert not any(part.training for part in model.modules())
            assert not torch.is_grad_enabled()
        assert model.training == mode
        with pytest.raises(KeyError), evaluating(model):
            raise KeyError
        assert model.training == mode
        assert torch.is_grad_enabled()
