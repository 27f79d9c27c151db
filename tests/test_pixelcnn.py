"""The image networks: a ResNet encoder and a PixelCNN decoder.

The tests check which pixels each pixel depends on, that probabilities sum to one, and that each fast form computes the
same as its plain form.
"""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from benchmarks.plain_images import PlainPixelCNN
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from duvae.config import ImageNetworks
from duvae.networks import build, initial, initialize
from duvae.networks.convolutions import BatchNorm, MaskedConvolution
from duvae.networks.fast import residual, sampling
from duvae.networks.fast.elementwise import elu_
from duvae.networks.fast.pixelcnn import FastBlock, FastPixelCNN
from duvae.networks.fast.toomcook import FewerProducts
from duvae.networks.pixelcnn import Block, PixelCNN
from duvae.networks.resnet import ResNetEncoder

PAPER = [7, 7, 7, 7, 7, 5, 5, 5, 5, 3, 3, 3, 3]
LATENT = 3


def lively(module: nn.Module, seed: int = 1) -> nn.Module:
    """Sets random running statistics, scales and shifts, as after a training; returns the module."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, BatchNorm):
            with torch.no_grad():
                part.running_mean.uniform_(-0.3, 0.3, generator=generator)
                part.running_variance.uniform_(0.5, 1.5, generator=generator)
                part.scale.uniform_(0.6, 1.4, generator=generator)
                part.shift.uniform_(-0.3, 0.3, generator=generator)

    return module


def decoder(size: int = 5, kernels: tuple[int, ...] = (5, 3, 5, 3, 1), width: int = 8, seed: int = 1) -> FastPixelCNN:
    torch.manual_seed(seed)
    made = FastPixelCNN(size, LATENT, kernels, width, 2)
    lively(made)

    return made


def bits(*shape: int, seed: int = 1, ink: float = 0.4) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < ink).float()


def codes(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------- what a pixel sees


def offsets(kernel: int, own: bool) -> set[tuple[int, int]]:
    """The pixels that a masked kernel sees, as (rows above, columns to the right).

    The kernel sees the pixels that come before its own pixel row by row, and its own pixel if `own`.
    """
    reach = kernel // 2
    square = itertools.product(range(-reach, reach + 1), repeat=2)

    return {(-row, column) for row, column in square if (row, column) < (0, 0) or (own and row == column == 0)}


def reached(size: int, kernels: tuple[int, ...]) -> dict[tuple[int, int], set[tuple[int, int]]]:
    """Maps each pixel to the pixels that it depends on through a chain of masked convolutions with these kernels."""
    inside = {(i, j) for i in range(size) for j in range(size)}

    def through(of: set[tuple[int, int]], kernel: int, own: bool) -> set[tuple[int, int]]:
        return {(i - up, j + right) for i, j in of for up, right in offsets(kernel, own)} & inside

    found = {}
    for pixel in inside:
        seen = {pixel}
        for kernel in reversed(kernels[1:]):
            seen = through(seen, kernel, own=True)
        found[pixel] = through(seen, kernels[0], own=False)

    return found


def influences(of: PixelCNN, x: Tensor, z: Tensor) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Yields each pixel with the gradient of its logit with respect to the image."""
    x = x.double().requires_grad_()
    logits = of.double().logits(x, z.double())[0, 0]
    for pixel in itertools.product(range(of.size), repeat=2):
        yield pixel, torch.autograd.grad(logits[pixel], x, retain_graph=True)[0][0, 0]


@pytest.mark.parametrize(
    ("size", "kernels"), [(5, (5, 3, 5, 3, 1)), (6, (3, 3)), (7, (3,)), (6, (3, 1, 1)), (8, (5, 3, 3, 3))]
)
def test_a_pixel_depends_on_those_before_it_within_its_field_and_on_no_other(
    size: int, kernels: tuple[int, ...]
) -> None:
    made = decoder(size, kernels).eval()
    expected = reached(size, kernels)
    for pixel, gradient in influences(made, torch.rand(1, 1, size, size), codes(1)):
        depends = {tuple(place) for place in gradient.nonzero().tolist()}
        assert depends == expected[pixel], pixel
        assert all(place < pixel for place in depends)
    assert expected[size - 1, size - 1]
    assert not expected[0, 0]


def test_the_papers_field_is_all_that_comes_before_within_its_reach() -> None:
    """Each pixel depends on exactly the pixels that `reached` gives for the paper's kernels.

    These kernels have sizes from 7 to 3, and together they reach 27 rows up.
    """
    made = decoder(10, tuple(PAPER), 4).eval()
    expected = reached(10, tuple(PAPER))
    for pixel, gradient in influences(made, torch.rand(1, 1, 10, 10), codes(1)):
        assert {tuple(place) for place in gradient.nonzero().tolist()} == expected[pixel]


def test_all_of_z_reaches_the_first_pixel_and_the_maps_are_seen_on_all_sides() -> None:
    made = decoder().eval()
    z = codes(1).requires_grad_()
    gradient = torch.autograd.grad(made.logits(bits(1, 1, 5, 5), z)[0, 0, 0, 0], z)[0]
    assert (gradient != 0).all()
    maps = made.z_maps(codes(1)).detach().requires_grad_()
    made.first(bits(1, 1, 5, 5), maps)[0, :, 2, 2].sum().backward()
    assert (maps.grad != 0).any(1).all()


@given(st.sampled_from([3, 5, 7]), st.booleans(), st.integers(0, 1000))
@settings(max_examples=20)
def test_a_masked_convolution_is_the_full_kernel_times_its_mask(kernel: int, own: bool, seed: int) -> None:
    torch.manual_seed(seed)
    made = MaskedConvolution(3, 4, kernel, own)
    full = functional.pad(made.kernel(), (0, 0, 0, kernel // 2))
    mask = torch.zeros(kernel, kernel)
    for up, right in offsets(kernel, own):
        mask[kernel // 2 - up, kernel // 2 + right] = 1
    x = torch.randn(2, 3, 6, 5)

    assert made.weight.shape[-1] == mask.sum()
    assert torch.equal(full != 0, mask.bool().expand_as(full))
    torch.testing.assert_close(made(x), functional.conv2d(x, full, padding=kernel // 2))


# -------------------------------------------------------------------------------- probabilities


@pytest.mark.parametrize("kernels", [(3, 3), (5, 3, 3, 3, 3)])
def test_the_probabilities_of_all_images_sum_to_one(kernels: tuple[int, ...]) -> None:
    made = decoder(3, kernels).double().eval()
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=9)), dtype=torch.float64).view(-1, 1, 3, 3)
    for z in codes(3).double():
        with torch.no_grad():
            found = made.log_prob(every, z.expand(512, -1))
        assert float(found.exp().sum()) == pytest.approx(1, abs=1e-12)
        assert found.exp().max() > 2 / 512


def test_samples_have_the_frequencies_of_the_probabilities() -> None:
    made = decoder(2, (3, 3)).eval()
    count = 40_000
    x = made.sample(codes(1).expand(count, -1), torch.Generator().manual_seed(1)).view(count, 4)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))
    with torch.no_grad():
        expected = made.log_prob(every.view(-1, 1, 2, 2), codes(1).expand(16, -1)).exp()
    found = torch.stack([(x == image).all(1).float().mean() for image in every])

    assert (found - expected).abs().max() < 5 * math.sqrt(0.25 / count)


# --------------------------------------------------------------------- fast forms and plain forms


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("kernels", [(3,), (3, 3), (5, 3, 3), (5, 3, 5, 3, 1), (7, 5, 5, 3, 3, 3)])
def test_logits_are_those_of_full_kernels_times_their_masks(kernels: tuple[int, ...], mode: bool) -> None:
    made = decoder(7, kernels).train(mode)
    x, z = bits(6, 1, 7, 7), codes(6)
    expected = PlainPixelCNN(made).logits(x, z)

    torch.testing.assert_close(made.logits(x, z), expected, atol=2e-5, rtol=1e-5)


def test_a_training_step_has_the_plain_forms_gradients_and_running_statistics() -> None:
    made = decoder(7, (5, 3, 5, 3, 3)).double().train()
    plain = PlainPixelCNN(made).double()
    x, z = bits(6, 1, 7, 7).double(), codes(6).double()
    for each in (made, plain):
        each.log_prob(x, z).mean().backward()
    for blocks, plains in ((made.layers, plain.layers), (made.skips, plain.skips)):
        for block, other in zip(blocks, plains, strict=True):
            full = functional.pad(block.masked.weight.grad, (0, block.masked.side**2 - block.masked.weight.shape[-1]))
            pairs = [
                (block.narrow.weight.grad, other.main[0].weight.grad),
                (full.view_as(other.main[3].weight), other.main[3].weight.grad),
                (block.widen.weight.grad, other.main[6].weight.grad),
            ]
            for norm, torchs in zip((block.norm1, block.norm2, block.norm3), other.main[1::3], strict=True):
                pairs += [(norm.scale.grad, torchs.weight.grad), (norm.shift.grad, torchs.bias.grad)]
                pairs += [(norm.running_mean, torchs.running_mean), (norm.running_variance, torchs.running_var)]
            for one, another in pairs:
                torch.testing.assert_close(one, another, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(made.maps.weight.grad, plain.maps.weight.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("base", [False, True])
def test_a_block_in_training_is_the_modules_one_after_the_other(
    base: bool, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast block equals its modules one by one: outputs, first gradients and second gradients.

    The block processes a few images at a time here. Both memory layouts are tested.
    """
    monkeypatch.setattr(residual, "ELEMENTS", 2 * 8 * 25)
    torch.manual_seed(1)
    block = FastBlock(8, 3).double()
    lively(block)
    x = torch.randn(5, 8, 5, 5, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    under = torch.randn_like(x).requires_grad_() if base else None
    kernels = block.narrow.weight, block.masked.kernel(), block.widen.weight
    norms = block.norm1, block.norm2, block.norm3
    weights = residual.Weights(
        *itertools.chain.from_iterable((k, n.scale, n.shift) for k, n in zip(kernels, norms, strict=True))
    )
    inputs = [x, *block.parameters(), *([under] if base else [])]
    expected = residual.plain(x, block.norm1.epsilon, weights) + (under if base else 0)
    found = block(x, under)

    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(x)
    firsts = [torch.autograd.grad(y, inputs, direction, create_graph=True) for y in (found, expected)]
    for one, another in zip(*firsts, strict=True):
        torch.testing.assert_close(one, another)
    kept = torch.autograd.grad(block(x, under), inputs, direction)
    for one, another in zip(kept, firsts[1], strict=True):
        torch.testing.assert_close(one, another)
    inputs = inputs[:10]  # leaves out the base: no first gradient depends on it
    seconds = [torch.autograd.grad(sum(g.square().sum() for g in first), inputs, retain_graph=True) for first in firsts]
    for one, another in zip(*seconds, strict=True):
        torch.testing.assert_close(one, another)


@pytest.mark.parametrize(("size", "kernels"), [(5, (5, 3, 5, 3, 1)), (8, (7, 7, 7, 3)), (6, (5, 7, 7))])
@pytest.mark.parametrize(("samples", "batch"), [(1, 5), (1, 40), (40, 1), (40, 2), (7, 3), (5, 23)])
def test_many_samples_of_z_have_the_likelihood_of_each(
    samples: int, batch: int, size: int, kernels: tuple[int, ...]
) -> None:
    made = decoder(size, kernels).eval()
    x, z = bits(batch, 1, size, size), torch.randn(samples, batch, LATENT)
    with torch.no_grad():
        expected = torch.stack([made.log_prob(x, each) for each in z])

    torch.testing.assert_close(made.log_prob_samples(x, z), expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(made.train().log_prob_samples(x, z), expected, atol=2e-5, rtol=1e-5)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 12), st.sampled_from([1, 3, 5, 7]), st.integers(0, 1000))
@settings(max_examples=40)
def test_fewer_products_are_the_convolution(images: int, tiles: int, width: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, kernel, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator)
        for shape in ((images, 3, 4 * tiles + 3, width), (5, 3, 4, columns), (5,))
    )
    expected = functional.conv2d(x, kernel, bias, padding=(0, columns // 2))
    single = FewerProducts(kernel.float(), bias.float())(x.float())

    assert FewerProducts.fit(kernel)
    torch.testing.assert_close(FewerProducts(kernel, bias)(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(single.double(), expected, atol=2e-4, rtol=0)


def test_fewer_products_are_off_by_a_few_times_what_all_are() -> None:
    """The rounding error of `FewerProducts` is under four times that of PyTorch's convolution.

    Each output is a sum of 4 x 7 x 32 terms, as in the decoder.
    """
    torch.manual_seed(1)
    x, kernel, bias = torch.randn(4, 32, 31, 28), torch.randn(32, 32, 4, 7) / 30, torch.randn(32)
    expected = functional.conv2d(x.double(), kernel.double(), bias.double(), padding=(0, 3))
    direct, fewer = functional.conv2d(x, kernel, bias, padding=(0, 3)), FewerProducts(kernel, bias)(x)

    assert (fewer - expected).square().mean().sqrt() < 4 * (direct - expected).square().mean().sqrt()


@pytest.mark.parametrize("likely", [False, True])
@pytest.mark.parametrize("kernels", [(3,), (5, 3, 3), (7, 5, 5, 3, 3, 1)])
def test_pixel_by_pixel_from_what_is_kept_is_a_whole_pass_a_pixel(kernels: tuple[int, ...], likely: bool) -> None:
    made = decoder(6, kernels).eval()
    z = codes(9)
    uniforms = None if likely else torch.rand(9, 6, 6)
    x, logits = sampling.sample(made.folded(), made.z_maps(z), uniforms)
    plain, expected = PlainPixelCNN(made).sample(z, uniforms)

    assert torch.equal(x, plain)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert 0 < x.mean() < 1


def test_samples_are_a_function_of_the_seed() -> None:
    made = decoder().train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    one, again, other = (made.sample(codes(8), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))

    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(made.sample(codes(8), likely=True), made.sample(codes(8), likely=True))
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
    assert set(one.unique().tolist()) == {0.0, 1.0}
    assert made.units(one) == 8


@given(st.floats(-90, 90, width=32))
def test_elu(value: float) -> None:
    x = torch.tensor([value])

    torch.testing.assert_close(elu_(x.clone()), functional.elu(x), atol=2e-7, rtol=1e-6)


# ------------------------------------------------------------------------------------ the encoder


def test_the_encoders_blocks_and_what_is_left_of_an_image() -> None:
    torch.manual_seed(1)
    encoder = ResNetEncoder(28, [64, 64, 64], 512)
    assert encoder.last.weight.shape == (512, 64, 4, 4)
    assert encoder(bits(3, 1, 28, 28)).shape == (3, encoder.features)
    found = encoder.eval()(bits(3, 1, 28, 28))
    with torch.no_grad():
        alone = encoder(bits(3, 1, 28, 28)[1:2])
    torch.testing.assert_close(alone, found[1:2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [5, 8, 13, 28])
def test_an_encoder_for_any_size(size: int) -> None:
    assert ResNetEncoder(size, [4, 6], 7)(bits(2, 1, size, size)).shape == (2, 7)


def test_a_lone_image_is_normalized_with_the_running_statistics_where_there_is_one_value() -> None:
    encoder = ResNetEncoder(8, [4, 4], 6)
    encoder(bits(5, 1, 8, 8))
    before = encoder.norm.running_mean.clone()
    assert torch.isfinite(encoder(bits(1, 1, 8, 8))).all()
    assert torch.equal(before, encoder.norm.running_mean)


# -------------------------------------------------------------------------------- initial weights


def test_the_initial_weights_are_the_papers() -> None:
    """Convolutions start from N(0, 2 / (k^2 c_out)), and linear maps from Xavier's uniform distribution.

    The setting's key `parts.init` changes nothing for images.
    """
    torch.manual_seed(1)
    sizes = ImageNetworks(
        size=28, channels=[64, 64, 64], features=512, kernels=PAPER, width=64, feature_maps=4, latent=32
    )
    encoder, made = build(sizes, 2, "torch")
    assert isinstance(made, FastPixelCNN)
    for weight, kernel, outputs in (
        (encoder.blocks[1].conv1.weight, 3, 64),
        (encoder.last.weight, 4, 512),
        (made.layers[0].masked.weight, 7, 32),
        (made.layers[-1].masked.weight, 3, 32),
        (made.first.image.weight, 7, 64),
        (made.layers[0].narrow.weight, 1, 32),
    ):
        assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / (kernel**2 * outputs)), rel=0.1)
    bound = math.sqrt(6 / (32 + 4 * 28**2))
    assert 0.9 * bound < float(made.maps.weight.detach().abs().max()) <= bound
    assert len(made.layers) == 12
    assert [block.masked.side for block in made.skips] == PAPER[1:-1]
    head = nn.Linear(512, 64, bias=False)
    initialize(head, initial(sizes, "torch"))
    assert float(head.weight.detach().abs().max()) == pytest.approx(math.sqrt(6 / 576), rel=0.01)


def test_all_layers_have_their_channels_side_by_side_in_memory() -> None:
    """Every block and every normalization gets a tensor in the fast layout, channels last.

    An image of one channel fits both layouts, so PyTorch could choose the slow layout for later tensors.
    """
    made, encoder = decoder(6), ResNetEncoder(8, [4, 4], 6)
    seen = []
    for part in (*made.modules(), *encoder.modules()):
        if isinstance(part, Block | BatchNorm):
            part.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    made.logits(bits(3, 1, 6, 6), codes(3))
    made.eval().logits(bits(3, 1, 6, 6), codes(3))
    encoder(bits(3, 1, 8, 8))

    assert len(seen) > 30
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)


# ------------------------------------------------------------------- the fast class and the plain class


def test_the_fast_decoder_is_the_plain_one() -> None:
    """`FastPixelCNN` and `PixelCNN` agree with the same weights, in training mode and in evaluation mode.

    They agree in log p(x|z), in its gradients, in log p(x|z) for many z, and in samples.
    """
    fast = decoder()
    plain = PixelCNN(5, LATENT, (5, 3, 5, 3, 1), 8, 2)
    plain.load_state_dict(fast.state_dict())
    torch.manual_seed(2)
    x, z, v = (torch.rand(4, 1, 5, 5) < 0.4).float(), torch.randn(4, LATENT, requires_grad=True), torch.randn(4)
    many = torch.randn(3, 4, LATENT)
    for training in (True, False):
        found = []
        for made in (plain, fast):
            made.train(training).requires_grad_(True)
            value = made.log_prob(x, z)
            gradients = torch.autograd.grad((v * value).sum(), [z, *made.parameters()])
            others = [] if training else [made.slope(x)(z), made.log_prob_samples(x, many)]
            found.append([value, *gradients, *others])
        for one, other in zip(*found, strict=True):
            assert torch.allclose(one, other, atol=1e-4)
            assert one.shape == other.shape
    for likely in (True, False):
        one, other = (made.sample(many[0], torch.Generator().manual_seed(1), likely) for made in (plain, fast))
        assert torch.equal(one, other)


@pytest.mark.parametrize(("fast", "kinds"), [(True, (FastPixelCNN, FastBlock)), (False, (PixelCNN, Block))])
def test_build_chooses_the_forms_of_the_decoder(fast: bool, kinds: tuple[type, type]) -> None:
    sizes = ImageNetworks(size=8, channels=[4, 4], features=6, kernels=[3, 3, 3], width=4, feature_maps=2, latent=2)
    made = build(sizes, 2, "paper", fast)[1]

    assert isinstance(made, PixelCNN)
    assert (type(made), type(made.layers[0])) == kinds
