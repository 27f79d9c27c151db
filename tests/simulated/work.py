"""Counts the work that operations give to a simulated GPU: kernels, arithmetic, traffic and memory.

`gpu.prepare` must run before this module is used.
"""

import weakref
from dataclasses import astuple, dataclass
from typing import Any

from simulated import gpu

GATHERS = {"index", "embedding", "gather", "index_select"}
"""Operations that read only as many elements of their first tensor as they write."""

SCATTERS = {"scatter_add_", "scatter_add", "index_add_", "index_put_", "_index_put_impl_", "scatter_"}
"""Operations that read and write only as many elements of their first tensor as their last tensor has."""

FILLS = {"copy_", "fill_", "zero_", "uniform_", "normal_", "bernoulli_", "random_", "exponential_"}
"""Operations that overwrite their first tensor without reading it."""


@dataclass
class Work:
    """The work of some operations.

    Attributes:
        launches: Number of kernels that the operations start. An operation of PyTorch counts as one kernel, and an LSTM
            of cuDNN as several (see `lstm_work`).
        flops: Arithmetic of all products, convolutions and LSTMs. A multiplication and an addition are two operations.
        bytes: Bytes that the kernels read and write, if no kernel finds its tensors in a cache.
    """

    launches: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Work") -> "Work":
        return self + other.times(-1)

    def times(self, factor: float) -> "Work":
        return Work(*(factor * value for value in astuple(self)))


def lstm_work(batch: int, length: int, inputs: int, hidden: int) -> tuple[Work, Work]:
    r"""Counts the work of one layer of an LSTM in float32 by cuDNN, forwards and backwards.

    With B sentences, T words, E inputs and H hidden units, the gates need 2 B T 4H (E + H) operations forwards. The
    gradient needs twice as many: one product for the inputs and one for the weights. We assume that cuDNN

    - computes the products with all inputs at once, and the products with the weights' gradients at once;
    - starts two kernels for each word, forwards as well as backwards: the recurrent product and the gates;
    - reads the recurrent weights for each word, and reads or writes six values per gate and word.

    Args:
        batch: Number of sentences B.
        length: Number of words T.
        inputs: Width of the inputs E.
        hidden: Width of the hidden state H.
    """
    flops = 2.0 * batch * length * 4 * hidden * (inputs + hidden)
    weights = 4.0 * 4 * hidden * (inputs + hidden)
    recurrent = 4.0 * length * 4 * hidden * hidden
    values = 4.0 * batch * length * (inputs + 6 * 4 * hidden)

    return Work(2 * length + 2, flops, weights + recurrent + values), Work(
        2 * length + 4, 2 * flops, 2 * weights + recurrent + 2 * values
    )


def counter() -> Any:
    """Builds a `Counter`. The class is defined here because its base class needs torch (see `gpu.prepare`)."""
    import torch
    from torch.utils.flop_counter import flop_registry

    aten = torch.ops.aten
    base: Any = type(gpu.simulation())

    def tensors(tree: Any) -> list[Any]:
        """The tensors on the GPU in arguments or results: tensors, and sequences of tensors."""
        if isinstance(tree, torch.Tensor):
            return [tree] if tree.is_cuda else []
        return [each for part in tree for each in tensors(part)] if isinstance(tree, (tuple, list)) else []

    def size(tensor: Any) -> int:
        """Bytes of the elements of a tensor. Elements that an expanded tensor repeats count once."""
        count = tensor.element_size()
        for extent, stride in zip(tensor.shape, tensor.stride(), strict=True):
            count *= extent if stride else 1
        return count

    class Counter(base):  # type: ignore[misc]
        """Counts the work of all operations, and the largest memory that their tensors take at the same time.

        Attributes:
            work: The work so far.
            held: Bytes of all tensors on the GPU at this moment.
            peak: Largest value of `held` so far, in bytes.
        """

        def __init__(self) -> None:
            super().__init__()
            self.work = Work()
            self.held = self.peak = 0
            self.known: set[int] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            before = self.launches
            result = super().__torch_dispatch__(func, types, args, kwargs)
            if func is torch.ops.prim.device.default:
                return result
            for tensor in tensors(result):
                self.hold(tensor)
            if self.launches > before:
                name = func.name().removeprefix("aten::").split(".")[0]
                self.work.launches += 1
                self.work.flops += self.arithmetic(func, name, args, kwargs or {}, result)
                self.work.bytes += self.traffic(func, name, args, kwargs or {}, result)
            return result

        def hold(self, tensor: Any) -> None:
            """Adds the memory of a tensor, and subtracts it when the tensor's memory is freed."""
            storage = tensor.untyped_storage()
            key, nbytes = storage._cdata, storage.nbytes()
            if key in self.known:
                return
            self.known.add(key)
            self.held += nbytes
            self.peak = max(self.peak, self.held)

            def release() -> None:
                self.known.discard(key)
                self.held -= nbytes

            weakref.finalize(storage, release)

        def arithmetic(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> float:
            """Counts the operations of a product or of a convolution."""
            packet = getattr(aten, name.removesuffix("_"), None)
            if packet in flop_registry:
                options = {key: value for key, value in kwargs.items() if key != "out"}
                return float(flop_registry[packet](*args, **options, out_val=result))
            return 2.0 * args[0].numel() if name in {"mv", "dot"} else 0.0

        def traffic(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> float:
            """Counts the bytes that an operation reads and writes."""
            given = tensors([*args, *(value for key, value in kwargs.items() if key != "out")])
            if name in GATHERS:
                return sum(map(size, given[1:])) + 2 * sum(map(size, tensors(result)))
            if name in SCATTERS:
                return sum(map(size, given[1:])) + 2 * size(given[-1])
            changed = [
                value
                for argument, value in zip(func._schema.arguments, args, strict=False)
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
            written = {id(tensor): tensor for tensor in (*tensors(changed), *tensors(result))}
            read = given[1:] if name in FILLS else given

            return sum(map(size, read)) + sum(map(size, written.values()))

        def lstm(self, x: Any, hidden: Any, weights: Any, *options: Any) -> Any:
            """Stands for cuDNN's LSTM of one layer, whose inputs have the shape (batch, length, inputs)."""
            return Layer.apply(self, x, *hidden, *weights)

    class Layer(torch.autograd.Function):
        """Counts the work of an LSTM instead of computing the LSTM."""

        @staticmethod
        def forward(ctx: Any, counter: Any, x: Any, hidden: Any, cell: Any, *weights: Any) -> Any:
            batch, length, inputs = x.shape
            width = hidden.shape[-1]
            ahead, back = lstm_work(batch, length, inputs, width)
            counter.work = counter.work + ahead
            ctx.counter, ctx.back, ctx.weights = counter, back, weights
            ctx.save_for_backward(x, hidden, cell)
            # cuDNN keeps the gates and the cell states for the gradient.
            ctx.reserve = x.new_empty(batch, length, 5 * width) if any(ctx.needs_input_grad) else None
            return x.new_empty(batch, length, width), torch.empty_like(hidden), torch.empty_like(cell)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            ctx.counter.work = ctx.counter.work + ctx.back
            return None, *(torch.empty_like(each) for each in (*ctx.saved_tensors, *ctx.weights))

    return Counter()
