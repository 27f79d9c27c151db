"""CPU and GPU in the check of a GPU: they get the same random numbers, and a wrong result is seen."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.gpu import models, parity
from benchmarks.gpu.noise import SharedNoise, UnsharedDraw
from torch.nn import functional

import family
from duvae.networks.fast import elementwise
from duvae.posteriors import noise_like

# ------------------------------------------------------------------------------------- random numbers

DRAWS: dict[str, Callable[[torch.dtype], torch.Tensor]] = {
    "randn": lambda kind: torch.randn(40, 30, dtype=kind),
    "noise": lambda kind: noise_like(torch.zeros(40, 30, dtype=kind), (2,)),
    "rand": lambda kind: torch.rand(1200, dtype=kind),
    "randn_like": lambda kind: torch.randn_like(torch.zeros(40, 30, dtype=kind)),
    "bernoulli": lambda kind: torch.bernoulli(torch.full((1200,), 0.25, dtype=kind)),
    "bernoulli_": lambda kind: torch.empty(30, 40, dtype=kind).T.bernoulli_(0.25),
    "normal_": lambda kind: torch.empty(1200, dtype=kind).normal_(1, 2),
    "multinomial": lambda kind: torch.multinomial(torch.tensor([[0.25, 0.75]], dtype=kind), 1200, True).to(kind),
    "dropout": lambda kind: functional.dropout(torch.ones(1200, dtype=kind), 0.5, True),
    "dropout of a tenth": lambda kind: functional.dropout(torch.ones(1200, dtype=kind), 0.1, True),
}
MEANS = {"rand": (0.5, 0.29), "bernoulli": (0.25, 0.43), "bernoulli_": (0.25, 0.43), "normal_": (1, 2)}
MEANS |= {"multinomial": (0.75, 0.43), "dropout": (1, 1), "dropout of a tenth": (1, 0.33)}


@pytest.mark.parametrize("name", DRAWS)
def test_two_blocks_draw_the_same_numbers_of_the_right_distribution(name: str) -> None:
    """Also in another precision, and whatever PyTorch's global generator has drawn before."""
    found = []
    for kind in (torch.float32, torch.float64):
        torch.manual_seed(len(found))
        with SharedNoise(3) as noise:
            found.append([DRAWS[name](kind) for _ in range(2)])
        assert len(noise.draws) == 2
    (one, two), (other, _) = found
    mean, spread = MEANS.get(name, (0, 1))

    assert not torch.equal(one, two)
    torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-7)
    assert abs(float(one.mean()) - mean) < 5 * spread / math.sqrt(one.numel())
    assert float(one.std()) == pytest.approx(spread, rel=0.1)
    with SharedNoise(4):
        assert not torch.equal(one, DRAWS[name](torch.float32))


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_dropout_of_a_cpu_and_of_a_gpu_have_the_same_mask(share: float) -> None:
    """A CPU draws random bits where a GPU calls PyTorch's own dropout."""
    x, results, draws = torch.randn(7, 9, requires_grad=True), [], []
    for form in (elementwise.dropout, functional.dropout):
        with SharedNoise(3) as noise:
            results.append(form(x, share, True))
            results.append(torch.autograd.grad(results[-1].sum(), x)[0])
        draws.append(noise.draws)
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])
    assert draws[0] == draws[1]
    assert 0 < int((results[0] == 0).sum()) < x.numel()
    with SharedNoise(3) as noise:
        assert functional.dropout(x, share, False) is x
    assert noise.draws == []


def test_a_generator_of_a_gpu_has_a_twin_on_the_cpu() -> None:
    """The twin of a generator starts from the seed of the generator, and goes on from draw to draw."""

    class OfGPU(torch.Generator):
        device = torch.device("cuda")

    generator = OfGPU().manual_seed(5)
    with SharedNoise(3):
        found = [torch.randn(8, generator=generator) for _ in range(2)]
        torch.randn(8)
    own = torch.Generator().manual_seed(5)
    assert torch.equal(torch.cat(found), torch.cat([torch.randn(8, generator=own) for _ in range(2)]))
    own = torch.Generator().manual_seed(5)
    with SharedNoise(9):
        assert torch.equal(found[0], torch.randn(8, generator=own))


def test_a_draw_that_is_not_shared_is_an_error() -> None:
    with pytest.raises(UnsharedDraw), SharedNoise(3):
        torch.normal(torch.zeros(3), 1.0)
    with pytest.raises(ZeroDivisionError), SharedNoise(3):
        torch.normal(torch.zeros(3), 1 / 0)


# --------------------------------------------------------------------------------------------- parity


def results(system: str, change: float = 0.0) -> parity.Results:
    """The loss and the gradient of a small model, whose weights in the decoder's last layer change by a factor."""
    size, found = models.SMALL["text"], parity.Results()
    model = models.build(models.description(family.FULL_SIZE, system, size))
    with torch.no_grad():
        model.decoder.get_parameter("output.weight").mul_(1 + change)
    parity.loss_and_gradient(found, model, parity.batch(size, torch.device("cpu")))
    found.numbers["MI"] = 1.0 + change

    return found


def statuses(expected: parity.Results, found: parity.Results) -> dict[str, str]:
    return {row.name.removeprefix("text: "): row.status for row in parity.compared("text", expected, found)}


def test_a_wrong_result_is_seen() -> None:
    expected = results("vae")
    assert set(statuses(expected, results("vae")).values()) == {"passed"}
    assert statuses(expected, results("vae", 1e-3))["loss"] == "failed"
    found = statuses(expected, results("vae", 0.3))
    assert {found[name] for name in ("loss", "gradient", "MI")} == {"failed"}
    assert statuses(expected, results("du_vae"))["random draws"] == "failed"


def test_a_measure_that_exists_on_one_device_only_is_seen() -> None:
    expected, found = results("vae"), results("vae")
    found.numbers["MI"] = None
    assert statuses(expected, found)["MI"] == "failed"
    expected.numbers["MI"] = None
    assert "MI" not in statuses(expected, found)


def test_a_gradient_of_the_right_direction_and_the_wrong_length_is_seen() -> None:
    expected, found = results("vae"), results("vae")
    found.arrays["gradient"] = 1.001 * found.arrays["gradient"]
    both = statuses(expected, found)
    assert (both["gradient"], both["norm of the gradient"]) == ("passed", "failed")


@pytest.mark.parametrize("spoil", [lambda a: a[:-1], lambda a: a * np.nan, lambda a: -a])
def test_arrays_of_another_shape_or_without_numbers_differ(spoil: Callable[[Any], Any]) -> None:
    expected, found = results("vae"), results("vae")
    for key in ("loss", "gradient"):
        found.arrays[key] = spoil(found.arrays[key])
    both = statuses(expected, found)
    assert (both["loss"], both["gradient"]) == ("failed", "failed")


@pytest.mark.parametrize("system", family.NAMES)
@pytest.mark.parametrize("kind", models.KINDS)
def test_every_system_has_a_small_model(system: str, kind: models.Kind) -> None:
    """Its rounding errors are small compared with the bounds: float32 agrees with float64."""
    size, found = models.SMALL[kind], []
    model = models.build(models.description(family.FULL_SIZE, system, size))
    for dtype in (torch.float32, torch.float64):
        found.append(parity.Results())
        parity.loss_and_gradient(found[-1], model.to(dtype), parity.batch(size, torch.device("cpu"), dtype))
    rows = {row.name: row for row in parity.compared(kind, *found)}

    assert rows[f"{kind}: loss"].value < 3e-6
    assert rows[f"{kind}: gradient"].value < 1e-9
    assert {row.status for row in rows.values()} == {"passed"}
