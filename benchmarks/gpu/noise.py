"""Gives two devices the same random numbers, so that their results can be compared.

The random generators of a CPU and of a GPU give different numbers for the same seed. Inside of a `SharedNoise` block,
all random numbers therefore come from generators on the CPU, and are copied to the device that asks for them. The code
of the models does not change.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Generator, Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from duvae.networks.fast import elementwise

FACTORIES = {torch.randn, torch.rand, torch.randint, torch.randperm}
"""Functions that make a tensor of random numbers from sizes."""

LIKE: dict[Callable[..., Any], Callable[..., Any]] = {torch.randn_like: torch.randn, torch.rand_like: torch.rand}
"""Functions that make a tensor of random numbers like another tensor, with the function that takes its size instead."""

IN_PLACE = {
    getattr(Tensor, name): name for name in ("normal_", "uniform_", "bernoulli_", "random_", "exponential_", "cauchy_")
}
"""Methods that fill a tensor with random numbers, with their names."""

CHOICES = {torch.bernoulli, torch.multinomial}
"""Functions that draw from the probabilities in their first argument."""


class UnsharedDraw(Exception):
    """Is raised at the end of a block if some random numbers did not come from the shared generators."""


class SharedNoise(TorchFunctionMode):
    """Draws all random numbers of PyTorch inside of a `with` block on the CPU.

    Two blocks with the same seed give the same numbers to the same sequence of draws, whatever the devices and the
    floating-point types of the draws. Numbers are drawn in single precision and converted.

    A draw from a generator of its own, such as that of a likelihood, comes from a generator on the CPU with the same
    seed. All other draws come from one generator. A mask of `torch.nn.functional.dropout` has the bits of
    `duvae.networks.fast.elementwise.dropout`, which takes its place on a CPU.

    Args:
        seed: The seed of the draws without a generator of their own.

    Attributes:
        draws: The name and the shape of each draw so far. In two runs of the same computation they are equal.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = Generator().manual_seed(seed)
        self.twins: dict[int, tuple[Generator, Generator]] = {}
        self.draws: list[tuple[str, tuple[int, ...]]] = []
        self.depth, self.before = 0, global_states()

    def __enter__(self) -> Self:
        if self.depth == 0:
            self.before = global_states()
        self.depth += 1
        super().__enter__()  # type: ignore[no-untyped-call]

        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.depth -= 1
        if self.depth or error[0] is not None:
            return
        if not all(map(torch.equal, self.before, global_states())):
            raise UnsharedDraw("a function that benchmarks/gpu/noise.py does not know drew random numbers")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func is functional.dropout:
            return self.dropout(*args, **options)
        if func in FACTORIES:
            return self.made(func, args, options)
        if func in LIKE:
            like, *others = args
            place = {"dtype": like.dtype, "device": like.device}
            return self.made(LIKE[func], (tuple(like.shape), *others), {**place, **options})
        if func in IN_PLACE:
            return self.filled(IN_PLACE[func], *args, **options)
        if func in CHOICES:
            return self.chosen(func, *args, **options)

        return func(*args, **options)

    def made(self, draw: Any, sizes: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
        """Makes a tensor of random numbers.

        Args:
            draw: The function of PyTorch that draws.
            sizes: The arguments of this function by position.
            options: The arguments of this function by name.
        """
        device, dtype = options.pop("device", None), options.pop("dtype", None)
        generator, requires_grad = self.of(options.pop("generator", None)), options.pop("requires_grad", False)
        values: Tensor = draw(*sizes, **options, generator=generator)
        self.record(draw.__name__, values)

        return values.to(device or torch.get_default_device(), dtype or values.dtype).requires_grad_(requires_grad)

    def filled(self, name: str, x: Tensor, *args: Any, generator: Generator | None = None, **options: Any) -> Tensor:
        """Fills a tensor with random numbers in the order of its elements, whatever their order in memory."""
        values = torch.empty(x.shape, dtype=torch.float32 if x.is_floating_point() else x.dtype)
        getattr(values, name)(*map(on_cpu, args), generator=self.of(generator), **options)
        self.record(name, values)

        return x.copy_(values)

    def chosen(
        self, draw: Any, shares: Tensor, *args: Any, generator: Generator | None = None, **options: Any
    ) -> Tensor:
        """Draws from probabilities, which are first copied to the CPU."""
        values: Tensor = draw(on_cpu(shares), *args, generator=self.of(generator), **options)
        self.record(draw.__name__, values)

        return values.to(shares.device, shares.dtype if draw is torch.bernoulli else values.dtype)

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """Applies dropout with the mask that a CPU would draw."""
        if not training or p == 0:
            return x
        with self:  # the draw of the mask inside of this call is shared, too
            mask = elementwise.dropout(torch.ones(x.shape), p, True).to(x.device, x.dtype)

        return x.mul_(mask) if inplace else x * mask

    def of(self, generator: Generator | None) -> Generator:
        """The generator on the CPU from which a draw takes its numbers.

        Args:
            generator: The generator that the draw names; None: PyTorch's global generator.
        """
        if generator is None:
            return self.generator
        if generator.device.type == "cpu":
            return generator
        if id(generator) not in self.twins:  # holding the generator keeps its id from being used again
            self.twins[id(generator)] = generator, Generator().manual_seed(generator.initial_seed())

        return self.twins[id(generator)][1]

    def record(self, name: str, values: Tensor) -> None:
        """Records a draw."""
        self.draws.append((name, tuple(values.shape)))


def on_cpu(value: Any) -> Any:
    """Copies a tensor to the CPU, without its graph and at least in single precision. Other values are returned."""
    if not isinstance(value, Tensor):
        return value

    return value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype)


def global_states() -> list[Tensor]:
    """The states of PyTorch's global random generators, of which a `SharedNoise` block must use none."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()

    return states
