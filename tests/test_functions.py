"""Measures of models that are given as two functions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from duvae.data.splits import Array
from duvae.metrics import verdict
from duvae.metrics.adapters import Rows
from duvae.metrics.decoder_use import decoder_use, use_measures
from duvae.metrics.dimensions import dimension_measures
from duvae.metrics.encoding import encode as encode_split
from duvae.metrics.functions import Measures, measure, table
from duvae.metrics.geometry import measures as geometry
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.metrics.statistics import standard_error
from family import CPU, build, documents, lively

# ------------------------------------------------------------- probabilistic PCA, where all is known
#
# p(z) = N(0, I) and p(x|z) = N(W z, s^2 I), where the columns of W are orthogonal and have the lengths `LENGTHS`. The
# true posterior is then a diagonal Gaussian. The third dimension of z has no effect.

LENGTHS, NOISE, WIDTH = torch.tensor([1.5, 0.7, 0.0], dtype=torch.float64), 0.8, 5
W = torch.linalg.qr(torch.randn(WIDTH, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0] * LENGTHS
VARIANCE = NOISE**2 / (LENGTHS**2 + NOISE**2)


def observations(count: int = 3000, seed: int = 5) -> Tensor:
    """Draws examples of the model, shape (count, WIDTH)."""
    generator = torch.Generator().manual_seed(seed)
    z, noise = (torch.randn(count, n, generator=generator, dtype=torch.float64) for n in (3, WIDTH))

    return z @ W.T + NOISE * noise


def posterior(x: Tensor, shift: float = 0.0, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """The true posterior, with a shifted mean and a scaled variance."""
    mean = x @ W / NOISE**2 * VARIANCE + shift

    return mean, (scale * VARIANCE).log().expand_as(mean)


def likelihood(x: Tensor, z: Tensor) -> Tensor:
    return torch.distributions.Normal(z @ W.T, NOISE).log_prob(x).sum(-1)


def exact_nll(x: Tensor) -> Array:
    covariance = W @ W.T + NOISE**2 * torch.eye(WIDTH, dtype=torch.float64)

    return -torch.distributions.MultivariateNormal(torch.zeros(WIDTH, dtype=torch.float64), covariance).log_prob(x)


X = observations()


@pytest.mark.parametrize("samples", [1, 3, 40])
def test_with_the_true_posterior_the_nll_is_exact_for_any_number_of_samples(samples: int) -> None:
    x = X[:200]
    found = measure(posterior, likelihood, x, samples=samples)
    truth = exact_nll(x).numpy()

    np.testing.assert_allclose(found.nll_by_example, truth, atol=1e-9)
    assert found.nll == pytest.approx(truth.mean())
    assert found.nll_stderr == pytest.approx(truth.std(ddof=1) / math.sqrt(200))
    assert found.samples == samples


def test_with_another_posterior_the_nll_comes_down_to_the_truth() -> None:
    """One sample gives the negative ELBO, which is above the truth by KL[q(z|x) || p(z|x)]."""
    truth = float(exact_nll(X).mean())
    gap = float(0.5 * (1.5 - 1 - math.log(1.5) + 0.2**2 / VARIANCE).sum())
    nll = {}
    for samples in (1, 5, 60):
        found = measure(lambda x: posterior(x, 0.2, 1.5), likelihood, X, samples=samples)
        assert found.nll is not None
        nll[samples] = found.nll
        if samples == 1:
            assert found.nll_by_example is not None
            error = standard_error(found.nll_by_example - exact_nll(X).numpy())
            assert error is not None
            assert abs(found.nll - truth - gap) < 5 * error

    assert nll[1] > nll[5] > nll[60]
    assert nll[60] == pytest.approx(truth, abs=0.02)


def test_kl_and_information_have_their_closed_forms() -> None:
    """For data of the model, KL_d is log(1 + w_d^2 / s^2) / 2 in expectation, and the sum is the information."""
    found = measure(posterior, likelihood, X, samples=None)
    by_dimension = (0.5 * (1 + LENGTHS**2 / NOISE**2).log()).numpy()
    mean = posterior(X)[0]
    errors = (0.5 * mean.square()).std(0).numpy() / math.sqrt(len(X))

    assert found.kl_by_dimension is not None
    assert found.kl is not None
    assert found.mi is not None
    assert (np.abs(np.array(found.kl_by_dimension) - by_dimension) <= 5 * errors + 1e-12).all()
    assert sum(found.kl_by_dimension) == pytest.approx(found.kl)
    assert found.mi == pytest.approx(by_dimension.sum(), abs=0.1)
    assert found.mi <= found.mi_ceiling == math.log(len(X))
    assert found.nll is None
    assert found.samples is None


def test_the_use_of_z_has_its_closed_form() -> None:
    """log p(x|z) falls by the sum of w_d^2 / s^2 in expectation, if z is exchanged for one of the prior."""
    found = measure(posterior, likelihood, X, samples=None)

    assert found.use is not None
    assert found.use_stderr is not None
    assert abs(found.use - float((LENGTHS**2).sum()) / NOISE**2) < 5 * found.use_stderr
    assert found.use_stderr == standard_error(found.use_by_example)
    assert found.verdict == verdict.NOT_COLLAPSED
    assert found.collapsed is False


def test_active_units_are_the_dimensions_whose_means_vary() -> None:
    found = measure(posterior, likelihood, X, samples=None)

    assert found.mean_variances == pytest.approx(posterior(X)[0].var(0, correction=0).tolist())
    assert found.au == 2
    assert measure(posterior, likelihood, X[:100], samples=None, active_threshold=0.6).au == 1
    assert found.latent == 3


def test_information_near_its_ceiling_does_not_pass_it() -> None:
    found = measure(lambda x: (100 * x, torch.zeros_like(x)), lambda x, z: z.sum(-1), X[:50], samples=None)

    assert found.mi == pytest.approx(math.log(50))


# ------------------------------------------------------------------- collapsed and working models


def test_a_decoder_that_ignores_z_has_collapsed_however_large_the_information() -> None:
    found = measure(posterior, lambda x, z: likelihood(x, torch.zeros_like(z)), X[:500], samples=None)

    assert found.use == pytest.approx(0, abs=1e-12)
    assert found.mi is not None
    assert found.mi > 0.8
    assert found.verdict == verdict.COLLAPSED


def test_an_encoder_that_ignores_x_has_collapsed() -> None:
    constant = torch.zeros(3, dtype=torch.float64)
    found = measure(lambda x: (constant.expand(len(x), 3), constant.expand(len(x), 3)), likelihood, X[:500])

    assert found.kl == pytest.approx(0, abs=1e-12)
    assert found.mi == pytest.approx(0, abs=1e-9)
    assert found.au == 0
    assert found.verdict == verdict.COLLAPSED


def test_an_autoencoder_has_a_use_of_z_alone() -> None:
    found = measure(lambda x: (posterior(x)[0], None), likelihood, X[:500])

    assert (found.kl, found.mi, found.nll, found.kl_by_dimension, found.mpd, found.ce) == (None,) * 6
    assert found.au == 2
    assert found.verdict == verdict.NOT_COLLAPSED


def test_one_example_tells_nothing() -> None:
    found = measure(posterior, likelihood, X[:1], samples=2)

    assert (found.mi, found.au, found.use, found.nll_stderr) == (None, None, None, None)
    assert found.nll is not None


# ---------------------------------------------------------------- the same as for the project's models


def wrapped(model: nn.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def encode(x: Tensor) -> tuple[Tensor, Tensor | None]:
        found = model.posterior(x)
        return found.mean, None if found.variance is None else found.variance.log()

    return encode, model.decoder.log_prob


@pytest.mark.parametrize("name", ["vae", "du_vae", "delta_vae", "sa_vae", "ae"])
@pytest.mark.parametrize("batch", [256, 4])
def test_the_measures_are_those_of_the_stage_evaluate(name: str, batch: int) -> None:
    """Sentences of mixed lengths, the same seed, and functions around a model of this project: the same numbers."""
    model, split = lively(build(name, dropout_in=0.5, dropout_out=0.5)[0]), documents(23)
    model.start()
    encoded = encode_split(model, split, CPU, 7)
    expected: dict[str, Any] = {
        **geometry(encoded, 0.01),
        **dimension_measures(model, split, encoded, CPU, 7),
        **use_measures(decoder_use(model, split, encoded, CPU, 7)),
        "reconstruction": float(encoded.reconstruction.mean(dtype=np.float64)),
        "nll": None,
    }
    if encoded.density:
        expected["nll"] = float(importance_weighted_nll(model, split, 20, CPU, 7).mean())
    sentences = [torch.from_numpy(split.batch(np.array([n]))) for n in range(len(split))]
    before = [module.training for module in model.modules()]
    found = measure(*wrapped(model), sentences, samples=20, seed=7, batch=batch, model=model)

    for key, value in expected.items():
        if value is None:
            assert getattr(found, key) is None, key
        else:
            assert getattr(found, key) == pytest.approx(value, rel=1e-4, abs=1e-4), key
    assert found.verdict == verdict.verdict(expected)
    assert [module.training for module in model.modules()] == before


def test_groups_keep_z_among_their_members() -> None:
    """A decoder that reads only the group from z has a use of z, unless z is exchanged within groups only."""
    x = torch.arange(40.0)[:, None]

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([x % 2, x], 1), torch.full((len(x), 2), -20.0)

    def log_likelihood(x: Tensor, z: Tensor) -> Tensor:
        return -(z[:, 0] - x[:, 0] % 2).abs()

    apart = [n % 2 for n in range(40)]
    use = [measure(encode, log_likelihood, x, samples=None, groups=groups).use for groups in (None, apart)]

    assert use[0] is not None
    assert use[0] > 0.3
    assert use[1] == pytest.approx(0, abs=1e-3)


def test_batches_and_their_sizes_change_nothing() -> None:
    x = X[:50]
    one, other = (
        measure(posterior, likelihood, data, samples=30, batch=batch)
        for data, batch in ((x, 256), ((part for part in x.split(7)), 3))
    )

    for name in ("nll", "kl", "mi", "use", "use_stderr", "reconstruction"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9), name
    assert measure(posterior, likelihood, x.numpy(), samples=30).nll == one.nll
    assert measure(posterior, likelihood, x, samples=30, seed=2).use != one.use


def test_the_nll_of_a_choice_of_examples() -> None:
    found = measure(posterior, likelihood, X[:100], samples=3, nll_examples=10)
    assert found.nll_indices is not None

    assert len(set(found.nll_indices.tolist())) == 10
    np.testing.assert_allclose(found.nll_by_example, exact_nll(X[:100]).numpy()[found.nll_indices], atol=1e-9)
    assert len(found.use_by_example) == 100


def test_no_call_gets_more_rows_than_the_batch() -> None:
    sizes = []

    def log_likelihood(x: Tensor, z: Tensor) -> Tensor:
        sizes.append(len(x))
        assert x.shape[1:] == (WIDTH,)
        assert len(x) == len(z)
        return likelihood(x, z)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(x))
        return posterior(x)

    measure(encode, log_likelihood, X[:30], samples=9, batch=4)

    assert max(sizes) == 4


# ----------------------------------------------------------------------------------- modes of modules


class Network(nn.Module):
    """A VAE with dropout or batch normalization in the encoder."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Linear(WIDTH, 6), layer)
        self.frozen = nn.Dropout(0.5).eval()
        self.head, self.back = nn.Linear(6, 4), nn.Linear(2, WIDTH)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.head(self.frozen(self.body(x))).chunk(2, 1)
        return mean, log_variance

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return -0.5 * (x - self.back(z)).square().sum(1)


@pytest.mark.parametrize(
    ("layer", "problem"), [(nn.Dropout(0.5), "two calls differ"), (nn.BatchNorm1d(6), "other examples of the batch")]
)
def test_a_model_in_training_mode_is_an_error_unless_it_is_given(layer: nn.Module, problem: str) -> None:
    network, x = Network(layer), X[:40].float()
    with pytest.raises(ValueError, match=problem) as caught:
        measure(network.encode, network.log_likelihood, x, samples=None)
    assert "model.eval()" in str(caught.value)

    found = measure(network.encode, network.log_likelihood, x, samples=None, model=network)
    assert [network.training, layer.training, network.frozen.training] == [True, True, False]
    network.eval()
    assert measure(network.encode, network.log_likelihood, x, samples=None).kl == found.kl


def test_a_module_as_a_function_keeps_its_mode() -> None:
    class Encoder(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return posterior(x)

    encoder = Encoder().eval()
    measure(encoder, likelihood, X[:10], samples=None)
    assert not encoder.training


# ---------------------------------------------------------------------------------- rows and tables


def test_rows_are_the_examples_in_their_order() -> None:
    x, y = torch.arange(12).reshape(2, 2, 3), torch.arange(100, 106).reshape(2, 3)
    rows = Rows([x, y, x + 50])

    assert len(rows) == 6
    assert rows.lengths.tolist() == [1, 1, 0, 0, 1, 1]
    assert (rows.batch(np.array([4, 0])) == torch.stack([x[0] + 50, x[0]]).numpy()).all()
    assert (rows.batch(np.array([3])) == y[1:].numpy()).all()
    assert rows.predicted.tolist() == [6, 6, 3, 3, 6, 6]
    assert rows.only(np.array([2, 5])).contents() == [rows.contents()[2], rows.contents()[5]]
    assert [rows.values[start] for start in rows.starts] == [0, 6, 100, 103, 50, 56]


def test_a_table_shows_each_model_and_what_is_not_defined() -> None:
    works = measure(posterior, likelihood, X[:200], samples=2)
    point = measure(lambda x: (posterior(x)[0], None), likelihood, X[:200])
    lines = table({"PPCA": works, "AE": point}).splitlines()
    cells = {line[:24].strip(): line[24:].split() for line in lines}

    assert cells[""] == ["PPCA", "AE"]
    assert cells["NLL, nats"] == [f"{works.nll:.2f}", f"[{works.nll_stderr:.2f}]", "–"]
    assert cells["MI, nats (at most log N)"] == [f"{works.mi:.2f}", "(5.30)", "–"]
    assert cells["active units"] == ["2", "of", "3", "2", "of", "3"]
    assert len(set(map(len, lines))) == 1
    assert isinstance(works, Measures)
    assert "not collapsed" in str(works)
