import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import jacrev, vmap

from duvae.networks.made import MADE, IAFBlock, IAFChain, MaskedLinear
from duvae.registry import Chain
from duvae.systems import SYSTEMS
from family import FULL_SIZE, NAMES, batch, build, setting

CONTEXT, WIDTH = 3, 8
FLOWS = [name for name in NAMES if build(name)[0].posterior(batch()).transformed]
sizes = pytest.mark.parametrize("latent", [1, 2, 3, 5])
orders = pytest.mark.parametrize("reverse", [False, True])


def made(latent: int, reverse: bool = False, seed: int = 1) -> MADE:
    torch.manual_seed(seed)

    return MADE(latent, CONTEXT, WIDTH, reverse).double()


def chain(latent: int, blocks: int = 2, seed: int = 1, scale: float = 2.0) -> IAFChain:
    """A chain whose weights are larger than the initial ones, so that it is far from the identity."""
    torch.manual_seed(seed)
    made = IAFChain(latent, CONTEXT, WIDTH, blocks).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(scale)

    return made


def inputs(latent: int, *samples: int, count: int = 6, seed: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z, h = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((*samples, count, latent), (count, CONTEXT))
    )

    return z, h


def slopes(net: MADE, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Largest absolute slopes of m and s over a batch.

    Returns:
        |d (m, s)_d / d z_e|, shape (2, latent, latent), and |d (m, s)_d / d h_c|, shape (2, latent, context).
    """

    def both(z: Tensor, h: Tensor) -> Tensor:
        return torch.stack([part[0] for part in net(z[None], h[None])])

    return tuple(found.abs().amax(0) for found in vmap(jacrev(both, (0, 1)))(z, h))


# ------------------------------------------------------------------------------------- the network


@sizes
@orders
def test_m_and_s_depend_on_h_and_on_all_that_comes_before_and_on_nothing_else(latent: int, reverse: bool) -> None:
    """Autograd's Jacobian is taken at many z and h, because a ReLU that is off at one of them may be on at another."""
    of_z, of_h = slopes(made(latent, reverse), *inputs(latent, count=50))
    before = torch.ones(latent, latent).tril(-1).bool()
    allowed = before.T if reverse else before

    assert torch.equal(of_z > 0, allowed.expand(2, -1, -1))
    assert (of_h > 0).all()


@sizes
def test_width_is_for_each_dimension_in_both_layers(latent: int) -> None:
    net = MADE(latent, CONTEXT, WIDTH)

    assert net.of_context.weight.shape == (WIDTH * latent, CONTEXT)
    assert net.second.free.shape == (WIDTH * latent, WIDTH * latent)
    assert net.last.free.shape == (2 * latent, WIDTH * latent)


@pytest.mark.parametrize("name", FLOWS)
def test_the_papers_size(name: str) -> None:
    """The paper's chain has two blocks, each with 1920 hidden units at 32 dimensions."""
    hyperparameters = FULL_SIZE.hyperparameters(setting(name), "short_yelp")
    assert isinstance(hyperparameters, Chain)
    head = SYSTEMS[name](hyperparameters, FULL_SIZE.setting(setting(name)).parts).head(8, 32)
    made = [part for part in head.modules() if isinstance(part, MADE)]

    assert [len(net.second.bias) for net in made] == [1920, 1920]


@orders
def test_what_is_masked_does_nothing_and_gets_no_gradient(reverse: bool) -> None:
    net, (z, h) = made(3, reverse), inputs(3)
    m, s = net(z, h)
    (m.square().sum() + s.square().sum()).backward()
    for part in net.modules():
        if isinstance(part, MaskedLinear):
            assert torch.equal(part.free.grad * (1 - part.mask), torch.zeros_like(part.free))
            assert (part.free.grad * part.mask).abs().max() > 0
            with torch.no_grad():
                part.free.add_(1e3 * (1 - part.mask))
    assert all(torch.equal(one, other) for one, other in zip(net(z, h), (m, s), strict=True))
    assert not any("mask" in key for key in net.state_dict())


def test_a_masked_map_starts_like_pytorchs_own_of_the_inputs_that_it_sees() -> None:
    torch.manual_seed(1)
    part = MaskedLinear(torch.arange(1, 401)[:, None] > torch.arange(400))
    bound = 1 / torch.arange(1, 401).sqrt()
    largest = part.weight.abs().amax(1)

    assert (largest <= bound).all()
    assert (part.bias.abs() <= bound).all()
    assert torch.allclose(largest[100:], bound[100:], rtol=0.2)
    assert float((part.bias.detach() / bound).var()) == pytest.approx(1 / 3, rel=0.15)


# --------------------------------------------------------------------------------------- the chain


@given(st.integers(1, 5), st.integers(1, 3), st.sampled_from([(), (1,), (4,), (2, 3)]), st.integers(0, 10_000))
@settings(max_examples=40)
def test_the_inverse_of_what_was_made_is_what_it_was_made_of(
    latent: int, blocks: int, samples: tuple[int, ...], seed: int
) -> None:
    flow, (z, h) = chain(latent, blocks, seed, scale=1.5), inputs(latent, *samples, seed=seed)
    made, log_sigma = flow(z, h)
    back, again = flow.inverse(made, h)

    assert torch.allclose(back, z, atol=1e-8)
    assert torch.allclose(again, log_sigma, atol=1e-8)
    assert torch.allclose(flow(flow.inverse(z, h)[0], h)[0], z, atol=1e-8)


@sizes
@orders
def test_a_block_is_triangular_with_sigma_on_the_diagonal(latent: int, reverse: bool) -> None:
    """Equation S22: the Jacobian is triangular in the block's order, and all sigma are in (0, 1)."""
    net, (z, h) = IAFBlock(made(latent, reverse)), inputs(latent)
    jacobian = vmap(jacrev(lambda z, h: net(z[None], h[None])[0][0]))(z, h)
    order = net.made.order
    sigma = net(z, h)[1].exp()

    assert torch.allclose(jacobian.diagonal(dim1=1, dim2=2), sigma)
    assert torch.equal(jacobian[:, order][:, :, order].triu(1), torch.zeros_like(jacobian))
    assert ((sigma > 0) & (sigma < 1)).all()


@sizes
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_log_determinant_is_the_jacobians(latent: int, blocks: int) -> None:
    """Equation S24: the log-determinant of the chain's Jacobian is the sum of all log sigma."""
    flow, (z, h) = chain(latent, blocks), inputs(latent)
    jacobian = vmap(jacrev(lambda z, h: flow(z[None], h[None])[0][0]))(z, h)
    sign, log_determinant = torch.linalg.slogdet(jacobian)

    assert (sign > 0).all()
    assert torch.allclose(flow(z, h)[1].sum(-1), log_determinant)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_the_order_is_reversed_from_block_to_block(blocks: int) -> None:
    found = [block.made.order for block in chain(4, blocks).blocks]

    assert found == [[0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3], [3, 2, 1, 0]][:blocks]
    before = torch.ones(4, 4).tril(-1).bool()
    for block, allowed in zip(chain(4, blocks).blocks, [before, before.T] * 2, strict=False):
        assert torch.equal(slopes(block.made, *inputs(4, count=50))[0][0] > 0, allowed)


def test_two_blocks_leave_no_dimension_apart_from_another() -> None:
    z, h = inputs(3, count=50)
    flow = chain(3)
    jacobian = vmap(jacrev(lambda z, h: flow(z[None], h[None])[0][0]))(z, h)

    assert (jacobian.abs().amax(0) > 0).all()


@pytest.mark.parametrize("name", FLOWS)
@sizes
def test_a_chain_starts_near_the_identity_and_depends_on_z_and_h(name: str, latent: int) -> None:
    """For standard normal z^0 and h, sigma is near sigmoid(2) = 0.88, whatever initial weights the encoder has."""
    torch.manual_seed(1)
    head = build(name, latent=latent)[0].head
    z, h = torch.randn(200, latent), torch.randn(200, 2 * latent)
    for block in head.chain.blocks:
        sigma = block(z, h)[1].exp()
        of_z, of_h = (found.detach() for found in slopes(block.made, z, h))

        assert ((sigma > 0.7) & (sigma < 0.97)).all()
        assert float(sigma.detach().mean()) == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=0.05)
        assert float(of_h.amin()) > 0.03
        assert latent == 1 or float(of_z.amax()) > 0.05


def test_many_samples_are_each_as_if_alone() -> None:
    flow, (z, h) = chain(3), inputs(3, 4, 5)
    made, log_sigma = flow(z, h)
    for i in range(4):
        for j in range(5):
            one, of_one = flow(z[i, j], h)
            assert torch.allclose(made[i, j], one)
            assert torch.allclose(log_sigma[i, j], of_one)


def test_the_inverse_can_be_differentiated() -> None:
    flow, (z, h) = chain(3), inputs(3)

    assert torch.autograd.gradcheck(flow.inverse, (z.requires_grad_(), h.requires_grad_()))
