"""Each fast form, compared with its plain form."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from duvae import networks
from duvae.config import TextNetworks
from duvae.data.splits import END, SPECIALS, START
from duvae.networks import build
from duvae.networks.bodies import Decoder, Slope
from duvae.networks.fast import lstm, products, tokens
from duvae.networks.fast.elementwise import STEPS, by_bits, by_uniform_numbers, dropout, tanh_
from duvae.networks.fast.lstm import FastLSTMDecoder
from duvae.networks.fast.slope import lstm_slope
from duvae.networks.fast.tokens import FastSoftmaxOutput, log_softmax_at, log_softmax_narrow
from duvae.networks.lstm import LSTMDecoder, SoftmaxOutput

WORDS, LATENT = 12, 3


def decoder(share: float = 0.0) -> FastLSTMDecoder:
    torch.manual_seed(1)
    made = FastLSTMDecoder(WORDS, 5, 8, LATENT, share, share)
    for parameter in made.parameters():
        torch.nn.init.uniform_(parameter, -0.7, 0.7)

    return made


def batch(count: int = 6, length: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(len(SPECIALS), WORDS, (count, length), generator=generator)
    edge = torch.ones(count, 1, dtype=torch.int64)

    return torch.cat([START * edge, words, END * edge], 1), torch.randn(count, LATENT, generator=generator)


# ---------------------------------------------------------------------------- large products


LIBRARIES = ["MKL", "oneDNN"]


def prefer(library: str, patch: pytest.MonkeyPatch) -> None:
    """Makes every product count as large and use this library."""
    patch.setattr(products, "LARGE", 1)
    patch.setattr(products, "mkl_at_its_best", lambda: library == "MKL" and torch.backends.mkl.is_available())


@pytest.fixture(params=LIBRARIES)
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes every product count as large, and blocks small. Returns a list that grows with each large product."""
    seen: list[int] = []
    whether = products.large

    def counted(x: Tensor, columns: int) -> bool:
        seen.extend([columns] * whether(x, columns))

        return whether(x, columns)

    prefer(request.param, monkeypatch)
    monkeypatch.setattr(products, "large", counted)
    for module in (lstm, tokens):
        monkeypatch.setattr(module, "IN_BLOCK", 3 * WORDS)
    monkeypatch.setattr(tokens, "IN_CACHE", 0)
    monkeypatch.setattr(tokens, "NARROW", 0)

    return seen


@pytest.mark.parametrize("library", LIBRARIES)
@given(
    st.integers(0, 10_000), *([st.integers(1, 40)] * 3), st.tuples(*[st.sampled_from(["whole", "turned", "part"])] * 2)
)
def test_large_products(library: str, seed: int, rows: int, inner: int, columns: int, layouts: tuple[str, str]) -> None:
    """The products are right for any memory layout of the factors."""
    torch.manual_seed(seed)

    def factor(height: int, width: int, layout: str) -> Tensor:
        if layout == "part":
            return torch.randn(height + 1, width + 2)[1:, 1:-1]

        return torch.randn(width, height).T if layout == "turned" else torch.randn(height, width)

    x, weight = factor(rows, inner, layouts[0]), factor(columns, inner, layouts[1])
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        prefer(library, patch)
        factor_of_all, factor_of_more = products.Factor(weight, rows), products.Factor(weight, rows + 1)
        assert (factor_of_all.packed is not None) == products.mkl_at_its_best()
        found = [
            factor_of_all.product(x),
            factor_of_more.product(x),
            products.product(x, weight),
            products.columns_product(x.T, weight.T),
            products.add_products_(torch.zeros(2, rows, columns), x, torch.stack([weight.T, -weight.T]))[0],
        ]

    for each in found:
        assert each.is_contiguous()
        assert torch.allclose(each.double(), x.double() @ weight.double().T, atol=1e-4)


@pytest.mark.parametrize(
    ("described", "expected"),
    [("vendor_id\t: GenuineIntel\n", True), ("vendor_id\t: AuthenticAMD\n", False), (None, False)],
)
def test_the_library_is_chosen_by_the_maker_of_the_processor(
    described: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    if described is not None:
        path.write_text(described)
    monkeypatch.setattr(products, "CPUINFO", path)
    monkeypatch.setattr(products.platform, "processor", lambda: "arm")
    products.mkl_at_its_best.cache_clear()

    assert products.mkl_at_its_best() == (expected and torch.backends.mkl.is_available())
    products.mkl_at_its_best.cache_clear()


def test_large_products_that_want_a_gradient_have_one(large: list[int]) -> None:
    x, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    for product in (products.product(x, weight), products.columns_product(x.T, weight.T)):
        assert all(found.abs().sum() > 0 for found in torch.autograd.grad(product.sum(), (x, weight)))
    assert not large


def test_the_decoder_with_large_products_is_its_plain_form(large: list[int]) -> None:
    """Values and gradients agree in blocks of three words. Many z use the words' inputs of a few steps at a time."""
    made = decoder()
    x, z = batch()
    z.requires_grad_(True)
    found = []
    for form in (made.log_prob, made.log_prob_plain):
        value = form(x, z)
        found.append([value, *torch.autograd.grad((value * z[:, 0]).sum(), [z, *made.parameters()])])

    for fast, plain in zip(*found, strict=True):
        assert torch.allclose(fast, plain, atol=1e-5)
    count = len(large)
    many = torch.randn(4, len(x), LATENT)

    assert torch.allclose(
        made.log_prob_samples(x, many), torch.stack([made.log_prob_plain(x, each) for each in many]), atol=1e-5
    )
    assert 0 < count < len(large)


# --------------------------------------------------------------------------------- the softmax


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 40), st.sampled_from([0.1, 1.0, 30.0]))
@settings(max_examples=60)
def test_log_softmax_of_one_word_and_its_gradient(seed: int, rows: int, words: int, scale: float) -> None:
    torch.manual_seed(seed)
    output = FastSoftmaxOutput(6, words)
    torch.nn.init.normal_(output.weight, std=scale)
    hidden, asked = torch.randn(rows, 6, requires_grad=True), torch.randint(words, (rows,))
    weights = torch.randn(rows)
    fast, plain = output(hidden, asked), output.plain(hidden, asked)

    assert torch.allclose(fast, plain, atol=1e-4, rtol=1e-5)
    for found, expected in zip(
        torch.autograd.grad((weights * fast).sum(), (hidden, output.weight)),
        torch.autograd.grad((weights * plain).sum(), (hidden, output.weight)),
        strict=True,
    ):
        assert torch.allclose(found, expected, atol=1e-4 * scale, rtol=1e-4)


FORMS = [log_softmax_at, log_softmax_narrow]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_both_forms_of_log_softmax_are_cross_entropy(form: Callable[..., Tensor], scale: float) -> None:
    """Includes a sum of exponentials that overflows float32 unless the largest logit is subtracted."""
    torch.manual_seed(1)
    hidden, weight = torch.randn(20, 6, requires_grad=True), (scale * torch.randn(40, 6)).requires_grad_()
    words, weights = torch.randint(40, (20,)), torch.randn(20)
    found, expected = form(hidden, weight, words), -functional.cross_entropy(hidden @ weight.T, words, reduction="none")

    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-5)
    for one, other in zip(
        torch.autograd.grad((weights * found).sum(), (hidden, weight)),
        torch.autograd.grad((weights * expected).sum(), (hidden, weight)),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-4 * scale, rtol=1e-4)


def test_the_form_of_log_softmax_is_chosen_by_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    for name in ("log_softmax_at", "log_softmax_narrow"):
        form = getattr(tokens, name)
        monkeypatch.setattr(tokens, name, lambda *args, form=form, name=name: (seen.append(name), form(*args))[1])
    for hidden in (tokens.NARROW, tokens.NARROW + 1):
        FastSoftmaxOutput(hidden, 5)(torch.randn(3, hidden), torch.tensor([1, 2, 3]))

    assert seen == ["log_softmax_narrow", "log_softmax_at"]


@pytest.mark.parametrize("form", FORMS)
def test_the_gradients_of_log_softmax_are_those_of_finite_differences(form: Callable[..., Tensor]) -> None:
    """Second derivatives agree too. The first derivative keeps a numerator as a constant; the second must avoid it."""
    torch.manual_seed(1)
    hidden, weight = (torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (5, 9))
    words = torch.randint(9, (5,))

    assert torch.autograd.gradcheck(lambda h, w: form(h, w, words), (hidden, weight))
    assert torch.autograd.gradgradcheck(lambda h, w: form(h, w, words), (hidden, weight))


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_logits_of_any_size_are_safe(scale: float) -> None:
    output = FastSoftmaxOutput(2, 3)
    with torch.no_grad():
        output.weight.copy_(scale * torch.tensor([[1.0, 0], [0, 1], [-1, -1]]))
    hidden = torch.tensor([[1.0, 0.5]], requires_grad=True)
    for word, expected in enumerate([0, -0.5 * scale, -2.5 * scale]):
        found = output(hidden, torch.tensor([word]))
        found.backward()

        assert found.item() == pytest.approx(expected, rel=1e-5)
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


def test_no_second_pass_is_kept_where_no_gradient_is_asked_for() -> None:
    output = FastSoftmaxOutput(4, 7)
    with torch.no_grad():
        assert output(torch.randn(3, 4), torch.tensor([1, 2, 3])).grad_fn is None


# --------------------------------------------------------------------------------- the decoder


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_decoder_is_its_plain_form(share: float) -> None:
    made = decoder(share)
    x, z = batch()
    z.requires_grad_(True)
    found = []
    for form in (made.log_prob, made.log_prob_plain):
        torch.manual_seed(2)
        value = form(x, z)
        found.append([value, *torch.autograd.grad(value.sum(), [z, *made.parameters()])])

    for fast, plain in zip(*found, strict=True):
        assert torch.allclose(fast, plain, atol=1e-5)


def test_second_order_gradients_are_those_of_the_plain_form() -> None:
    """Semi-amortized training needs these gradients: a step on z depends on the starting point and on the weights."""
    made = decoder()
    x, z = batch(2, 3)
    z.requires_grad_(True)
    found = []
    for form in (made.log_prob, made.log_prob_plain):
        slope = torch.autograd.grad(form(x, z).sum(), z, create_graph=True)[0]
        found.append(torch.autograd.grad(slope.square().sum(), [z, *made.parameters()]))

    for fast, plain in zip(*found, strict=True):
        assert torch.allclose(fast, plain, atol=1e-5)
        assert plain.abs().max() > 0
    made.double()
    assert torch.autograd.gradgradcheck(lambda at: made.log_prob_plain(x, at), (z.detach().double().requires_grad_(),))


# ------------------------------------------------------- the gradient with respect to z, and its derivatives


def slopes(x: Tensor, made: FastLSTMDecoder, kept: tuple[Tensor, Tensor] | None = None) -> tuple[Slope, Slope]:
    """The gradient with respect to z in the fast form and in PyTorch's.

    Args:
        x: Sentences, shape (batch, length).
        made: The decoder.
        kept: Factors of dropout on embeddings and on outputs, batch before length. None: no dropout.
    """
    if kept is None:
        return made.slope(x), Decoder.slope(made, x)
    lstm = made.lstm

    def fast(z: Tensor) -> Tensor:
        return lstm_slope(
            z,
            (made.embedding(x[:, :-1]) * kept[0]).transpose(0, 1),
            kept[1].transpose(0, 1),
            x[:, 1:],
            made.initial.weight,
            lstm.weight_ih_l0,
            lstm.weight_hh_l0,
            lstm.bias_ih_l0 + lstm.bias_hh_l0,
            made.output.weight,
        )

    def plain(z: Tensor) -> Tensor:
        words, cell = made.embedding(x[:, :-1]) * kept[0], made.initial(z)
        joined = torch.cat([words, z[:, None].expand(-1, words.shape[1], -1)], -1)
        outputs, _ = lstm(joined, (cell.tanh()[None], cell[None]))
        value = made.output.plain(outputs * kept[1], x[:, 1:]).sum()

        return torch.autograd.grad(value, z, create_graph=True)[0]

    return fast, plain


@given(
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.integers(1, 6),
    st.booleans(),
    st.sampled_from([1, 30, 2**19]),
    st.sampled_from([0.7, 4.0]),
)
@settings(max_examples=60)
def test_the_slope_and_its_own_gradient(
    seed: int, count: int, length: int, drops: bool, at_once: int, reach: float
) -> None:
    """The gradient and its derivatives by z and by every parameter, in double precision and for any size of blocks."""
    torch.manual_seed(seed)
    made = FastLSTMDecoder(WORDS, 5, 8, LATENT, 0.0, 0.0).double()
    for parameter in made.parameters():
        torch.nn.init.uniform_(parameter, -reach, reach)
    x = torch.randint(WORDS, (count, length + 1))
    z = torch.randn(count, LATENT, dtype=torch.float64, requires_grad=True)
    v = torch.randn(count, LATENT, dtype=torch.float64)
    kept = tuple(2.0 * torch.randint(2, (count, length, width)) for width in (5, 8)) if drops else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "AT_ONCE", at_once)
        found = []
        for form in slopes(x, made, kept):  # type: ignore[arg-type]
            slope = form(z)
            found.append([slope, *torch.autograd.grad((v * slope).sum(), [z, *made.parameters()])])

    for fast, plain in zip(*found, strict=True):
        assert torch.allclose(fast, plain, rtol=1e-8, atol=1e-10)
        assert fast.shape == plain.shape


def test_the_slope_is_that_of_finite_differences() -> None:
    made = decoder().double()
    x, z = batch(2, 3)
    at, direction = z.double(), torch.randn(2, LATENT, dtype=torch.float64)
    with torch.no_grad():
        ends = [made.log_prob_plain(x, at + step * direction) for step in (1e-6, -1e-6)]
        found = (made.slope(x)(at) * direction).sum(-1)

    assert torch.allclose(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)
    assert torch.autograd.gradcheck(made.slope(x), (at.requires_grad_(),))


def test_the_slope_needs_nothing_of_pytorchs_lstm(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's LSTM has no second derivative on a GPU, so the fast form must not use it."""
    made, (x, z) = decoder(), batch()
    expected = made.slope(x)(z)
    monkeypatch.setattr(made.lstm, "forward", None)

    assert torch.equal(made.slope(x)(z), expected)


def test_what_is_dropped_is_drawn_anew_for_each_z_and_only_in_training() -> None:
    made, (x, z) = decoder(0.5), batch()
    for form in (made.slope(x), Decoder.slope(made, x)):
        made.train()
        assert not torch.equal(form(z), form(z))
        made.eval()
        assert torch.equal(form(z), form(z))


# ------------------------------------------------------------------------- element by element


@pytest.mark.parametrize("share", [0.0, 0.125, 0.2, 0.5, 0.9, 1 - 1 / 8])
def test_dropout_keeps_its_share_and_the_mean(share: float) -> None:
    torch.manual_seed(1)
    x = torch.full((400, 500), 3.0, requires_grad=True)
    found = dropout(x, share, training=True)
    kept = found != 0
    found.sum().backward()

    assert float(kept.double().mean()) == pytest.approx(1 - share, abs=0.005)
    assert torch.allclose(found[kept], torch.tensor(3 / (1 - share)))
    assert x.grad is not None
    assert torch.allclose(x.grad, found.detach() / 3)
    assert torch.equal(dropout(x, share, training=False), x)
    plain = functional.dropout(x, share, training=True)
    assert plain.detach().mean().item() == pytest.approx(found.detach().mean().item(), rel=0.02)


@pytest.mark.parametrize("share", [0.5, 0.4])
def test_dropout_is_independent_from_element_to_element(share: float) -> None:
    """The first share draws bits; the second draws uniform numbers."""
    torch.manual_seed(1)
    kept = (dropout(torch.ones(20_000, 8), share, training=True) != 0).double()
    variance = share * (1 - share)
    covariance = torch.cov(kept.T) - variance * torch.eye(8)

    assert float(covariance.abs().max()) < 5 * variance / math.sqrt(20_000)


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 7), st.integers(0, STEPS - 1), st.booleans())
def test_the_bits_of_a_dropout_are_those_of_its_share(
    seed: int, rows: int, columns: int, least: int, turned: bool
) -> None:
    """An element is kept if its 16 bits, read as a number from 0 on, reach the share. The result has the shape of x."""
    x = torch.ones(columns, rows, dtype=torch.float64).T if turned else torch.ones(rows, columns)
    torch.manual_seed(seed)
    kept = by_bits(x, least / STEPS)
    torch.manual_seed(seed)
    drawn = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None).numpy().view(np.int16)
    expected = drawn[: x.numel()].astype(np.int64) + STEPS // 2 >= least

    assert kept.dtype == x.dtype
    assert kept.is_contiguous()
    assert np.array_equal(kept.numpy(), expected.reshape(rows, columns))
    assert set(by_uniform_numbers(x, least / STEPS).unique().tolist()) <= {0.0, 1.0}


def test_tanh_to_seven_digits() -> None:
    x = torch.cat([torch.linspace(-20, 20, 4001), torch.tensor([-math.inf, math.inf, -1e30, 1e30])])

    assert torch.allclose(tanh_(x.clone()).double(), x.double().tanh(), atol=3e-7, rtol=0)


# ------------------------------------------------------------------- the fast class and the plain class


def pair() -> list[LSTMDecoder]:
    """The plain decoder and the fast decoder, with the same weights."""
    fast = decoder()
    plain = LSTMDecoder(WORDS, 5, 8, LATENT, 0.0, 0.0)
    plain.load_state_dict(fast.state_dict())

    return [plain, fast]


def test_the_fast_decoder_is_the_plain_one() -> None:
    """The decoders agree in the weights' names, in log p(x|z) of one or many z, and in all gradients."""
    x, z = batch()
    z.requires_grad_(True)
    many, v = torch.randn(4, len(x), LATENT), torch.randn(len(x))
    found = []
    for made in pair():
        value = made.log_prob(x, z)
        gradients = torch.autograd.grad((v * value).sum(), [z, *made.parameters()])
        found.append([value, *gradients, made.slope(x)(z), made.log_prob_samples(x, many)])

    for plain, fast in zip(*found, strict=True):
        assert torch.allclose(plain, fast, atol=1e-5)
        assert plain.shape == fast.shape


def test_the_same_seed_draws_the_same_sentences() -> None:
    _, z = batch()
    found = [made.eval().sample(z, torch.Generator().manual_seed(1)) for made in pair()]

    assert torch.equal(*found)


def test_build_chooses_the_fast_forms_unless_told_otherwise() -> None:
    sizes = TextNetworks(embedding=5, hidden=8, latent=LATENT, dropout_in=0.5, dropout_out=0.5)
    for fast, kind, output in (
        (True, FastLSTMDecoder, FastSoftmaxOutput),
        (False, LSTMDecoder, SoftmaxOutput),
    ):
        torch.manual_seed(1)
        made = build(sizes, WORDS, "paper", fast)[1]

        assert type(made) is kind
        assert type(made.output) is output
    assert type(build(sizes, WORDS, "paper")[1]) is FastLSTMDecoder


def test_the_plain_networks_know_nothing_of_the_fast_ones() -> None:
    """Only the package's `build`, which chooses between both kinds, imports the fast ones."""
    folder = Path(networks.__file__).parent
    found = {path.name for path in folder.glob("*.py") if "networks.fast" in path.read_text(encoding="utf-8")}

    assert found == {"__init__.py"}
