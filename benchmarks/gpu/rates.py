"""Part 1: the rates of the card itself, with which the other parts compare the rates of the models."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch

from benchmarks.gpu.check import Check
from benchmarks.gpu.rows import Row
from benchmarks.large_text import Text
from duvae import devices

Precision = Literal["ieee", "tf32", "bfloat16"]
"""Precision of products: that of float32 numbers as in `duvae.devices.Products`, or bfloat16 numbers."""

SIDE, SMALL_SIDE = 8192, 64
"""Rows and columns of the matrices in a product on a GPU, and in a dry run."""

COPIED, FEW_COPIED = 2**30, 2**20
"""Number of bytes that are copied on a GPU, and in a dry run."""

LONG = 100
"""Number of operations in the chain whose gradient is measured."""


def run(check: Check) -> Iterator[Row]:
    """Yields the rates of products, copies and launches."""
    check.prepare()
    clock = check.clock
    for precision in ("ieee", "tf32", "bfloat16"):
        rate = product_rate(check, precision)
        side = SIDE if check.real else SMALL_SIDE
        remark = f"product of two matrices of {side:,} x {side:,}"
        yield check.on_gpu(Row(f"products, {precision}", 1e-12 * rate, "TFLOP/s", remark=remark))
    yield from copies(check)
    empty = empty_kernel(check)
    yield check.on_gpu(
        Row("empty kernel", 1e6 * clock.seconds(empty), "microseconds", remark="one launch after the other")
    )
    yield check.on_gpu(
        Row(
            "operation on one number",
            1e6 * launch_cost(check),
            "microseconds",
            remark="the cost of a launch by PyTorch",
        )
    )
    yield check.on_gpu(
        Row(
            "operation on one number, with its gradient",
            1e6 * launch_cost_in_training(check),
            "microseconds",
            remark="the mean cost of a launch by PyTorch in a forward and a backward pass",
        )
    )


def product_rate(check: Check, precision: Precision) -> float:
    """Measures the rate of a large product in operations per second. Products are in IEEE float32 afterwards."""
    side = SIDE if check.real else SMALL_SIDE
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    one, other, out = (torch.randn(side, side, device=check.device).to(kind) for _ in range(3))
    devices.set_products(check.device, "tf32" if precision == "tf32" else "ieee")
    try:
        return 2 * side**3 / check.clock.seconds(lambda: torch.mm(one, other, out=out), 0.5)
    finally:
        devices.set_products(check.device, "ieee")


def products_of_step(check: Check, text: Text, precision: Precision) -> Callable[[], None]:
    """Returns a function that computes only the products of a training step of a text model, with their own shapes.

    A step cannot be faster than its products. The products with the recurrent weights have as few rows as a batch has
    documents, so that their rate is far below that of a large product.
    """
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    shapes = product_shapes(text)
    factors = {
        shape: (
            torch.randn(shape[0], shape[1], device=check.device).to(kind),
            torch.randn(shape[1], shape[2], device=check.device).to(kind),
            torch.empty(shape[0], shape[2], device=check.device, dtype=kind),
        )
        for shape in set(shapes)
    }

    def products() -> None:
        for shape in shapes:
            one, other, out = factors[shape]
            torch.mm(one, other, out=out)

    return products


def product_shapes(text: Text) -> list[tuple[int, int, int]]:
    """Lists the products of a training step of a text model.

    Returns:
        Rows, inner dimension and columns of each product, in the order of a step. `Text.step_operations` counts the
        same products.
    """
    sizes, batch, shapes = text.networks, text.batch, list[tuple[int, int, int]]()

    def with_gradients(rows: int, inner: int, columns: int) -> list[tuple[int, int, int]]:
        return [(rows, inner, columns), (rows, columns, inner), (inner, rows, columns)]

    hidden, gates = sizes.hidden, 4 * sizes.hidden
    for length, width in ((text.ids, sizes.embedding), (text.ids - 1, sizes.embedding + sizes.latent)):
        shapes += with_gradients(batch * length, width, gates)
        shapes += length * [(batch, hidden, gates), (batch, gates, hidden)]  # one word after the other
        shapes += [(hidden, batch * length, gates)]

    return shapes + with_gradients(batch * (text.ids - 1), hidden, text.words)


def copies(check: Check) -> Iterator[Row]:
    """Yields the rates of copies inside of the memory of the device, and from the memory of the machine."""
    clock, count = check.clock, COPIED if check.real else FEW_COPIED
    source, target = (torch.zeros(count, dtype=torch.uint8, device=check.device) for _ in range(2))
    seconds = clock.seconds(lambda: target.copy_(source), 0.3)
    remark = "bytes read and bytes written"
    yield check.on_gpu(Row("copy inside of the memory", 2e-9 * count / seconds, "GB/s", remark=remark))
    pinned = torch.zeros(count // 4, dtype=torch.uint8, pin_memory=check.real)
    part = target[: count // 4]
    seconds = clock.seconds(lambda: part.copy_(pinned, non_blocking=True), 0.3)
    yield check.on_gpu(Row("copy from pinned memory", 1e-9 * len(pinned) / seconds, "GB/s"))


def empty_kernel(check: Check) -> Callable[[], Any]:
    """Returns a function that launches a kernel that does nothing; in a dry run, the smallest operation."""
    if check.real:
        return lambda: torch.cuda._sleep(0)

    return lambda: torch.empty(0)


def launch_cost(check: Check) -> float:
    """Measures the seconds of an operation on one number, without a gradient. PyTorch launches one kernel for it."""
    one = torch.zeros((), device=check.device)

    return check.clock.seconds(lambda: one.add_(1), 0.3)


def launch_cost_in_training(check: Check) -> float:
    """Measures the seconds per launch of a chain of products of two numbers, with the gradient of the chain."""
    factor = torch.ones((), device=check.device, requires_grad=True)

    def chain() -> None:
        factor.grad = None
        value = factor
        for _ in range(LONG):
            value = value * factor
        value.backward()

    seconds, work = check.clock.seconds(chain, 0.3), check.clock.work(chain)

    return seconds / (work.launches if work else 4 * LONG)  # each product has three launches in the backward pass
