"""Simulates a GPU on a machine without one: tensors have a shape, a type and a device, but no values.

`FakeTensorMode` is PyTorch's own simulation. It refuses operations on tensors of two devices. The class `Simulation`
adds what a real GPU refuses or what costs time there:

- products of tensors of different types, and random generators of another device;
- waits: operations after which the processor has to wait for the GPU;
- launches: the operations that start a kernel on the GPU.

`prepare` must run before any module of duvae is imported, and before torch is imported.
"""

import ctypes
import linecache
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "src" / "duvae"

PRODUCTS = {
    *("mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_", "mv", "dot", "convolution", "convolution_backward"),
    *("_thnn_fused_lstm_cell", "lerp", "addcmul", "addcmul_"),
}
"""Operations whose tensors must all have one type on a GPU. FakeTensorMode does not check this for all of them."""

READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero", "bincount"}
"""Operations whose result the processor reads, or whose result's size depends on values."""

FREE = {
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"),
    *("detach", "_local_scalar_dense", "is_pinned"),
}
"""Operations that start no kernel, besides views."""

UNORDERED = {
    *("cumsum", "bincount", "histc", "kthvalue", "median", "mode", "put_", "scatter_reduce", "embedding_bag"),
    *("nll_loss2d_forward", "ctc_loss", "max_unpool2d", "grid_sampler_2d_backward", "upsample_bilinear2d_backward"),
    *("adaptive_avg_pool2d_backward", "reflection_pad2d_backward", "replication_pad2d_backward"),
}
"""Operations without a deterministic form on a GPU (see `torch.use_deterministic_algorithms`)."""


def prepare(library: str) -> None:
    """Loads the simulated device, and replaces those functions of torch that need a real one.

    Args:
        library: Path of the compiled `device.cpp`.
    """
    ctypes.CDLL(library)
    import numpy as np
    import torch
    from torch import nn

    class Generator(torch.Generator):
        """A random generator that remembers the device that it was made for."""

        def __new__(cls, device: Any = "cpu") -> "Generator":
            made = super().__new__(cls, "cpu")
            made.place = torch.device(device).type
            return made

    def to(module: nn.Module, device: torch.device) -> nn.Module:
        """Moves a module. PyTorch's own `to` swaps tensors, which fake tensors do not allow."""
        for part in module.modules():
            for name, parameter in list(part._parameters.items()):
                if parameter is not None:
                    setattr(part, name, nn.Parameter(parameter.detach().to(device), parameter.requires_grad))
            for name, buffer in list(part._buffers.items()):
                if buffer is not None:
                    part._buffers[name] = buffer.to(device)
        return module

    def numpy(x: torch.Tensor, *, force: bool = False) -> Any:
        """An array of ones instead of the values of a tensor, which must be on the processor."""
        assert x.device.type == "cpu"
        return np.ones(tuple(x.shape), str(x.dtype).removeprefix("torch."))

    def pin(x: torch.Tensor) -> torch.Tensor:
        pinned = x.clone()
        pinned.pinned = True
        return pinned

    def checked(draw: Any) -> Any:
        """Wraps a function that draws random numbers, so that it compares the devices of generator and result."""

        def drawn(*args: Any, generator: Any = None, **options: Any) -> torch.Tensor:
            result = draw(*args, **options)
            if generator is not None and generator.place != result.device.type:
                raise TypeError(f"{draw.__name__} on {result.device} draws from a generator of {generator.place}")
            return result

        return drawn

    lstm = torch._VF.lstm

    def checked_lstm(x: torch.Tensor, hidden: Any, weights: Any, *others: Any) -> Any:
        types = {tensor.dtype for tensor in (x, *hidden, *weights)}
        if x.is_cuda and len(types) > 1 and not torch.is_autocast_enabled("cuda"):
            raise TypeError(f"an LSTM reads tensors of several types: {types}")
        return lstm(x, hidden, weights, *others)

    torch.Generator = Generator  # type: ignore[misc]
    for name in ("randn", "rand", "randint", "bernoulli", "multinomial"):
        setattr(torch, name, checked(getattr(torch, name)))
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda including_emulation=True: True
    nn.Module.to = to  # type: ignore[assignment,method-assign]
    torch.Tensor.numpy = numpy  # type: ignore[assignment,method-assign]
    torch.Tensor.pin_memory = pin  # type: ignore[assignment,method-assign]
    torch._VF.lstm = checked_lstm
    torch.cuda.get_rng_state = lambda device=None: torch.zeros(16, dtype=torch.uint8)
    torch.cuda.set_rng_state = lambda state, device=None: None
    torch.cuda.mem_get_info = lambda device=None: (64 * 2**30, 80 * 2**30)
    torch.cuda.memory_reserved = torch.cuda.memory_allocated = lambda device=None: 0


def simulation() -> Any:
    """Builds a `Simulation`. The class is defined here because its base class needs torch (see `prepare`)."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    class Simulation(TorchDispatchMode):
        """Checks each operation, and records waits and launches.

        Attributes:
            waits: The waits so far, each as the file and the text of the line of duvae that waits.
            launches: Number of kernels that were started so far.
        """

        def __init__(self) -> None:
            super().__init__()
            self.waits: set[str] = set()
            self.launches = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if func is torch.ops.prim.device.default:  # most calls by far
                return args[0].fake_device
            name = func.name().removeprefix("aten::").split(".")[0]
            tensors = [each for each in tree_iter((args, kwargs)) if isinstance(each, torch.Tensor)]
            on_gpu = any(tensor.is_cuda for tensor in tensors)
            if name == "is_pinned":
                return getattr(args[0], "pinned", False)
            if name in READS and on_gpu:
                self.wait()
            if name == "_local_scalar_dense":
                kind = tensors[0].dtype
                return False if kind == torch.bool else 0.0 if kind.is_floating_point else 0
            if name == "equal":
                return True
            if on_gpu and name in PRODUCTS:
                self.check_types(name, tensors)
            if on_gpu and name in UNORDERED:
                raise TypeError(f"{name} has no deterministic form on a GPU")
            if name == "index" and on_gpu:
                indices = [each for each in args[1] if each is not None]
                if any(each.dtype == torch.bool or not each.is_cuda for each in indices):
                    self.wait()
            if name == "copy_" and tensors[0].is_cuda != tensors[1].is_cuda:
                self.copied(tensors[1], kwargs.get("non_blocking", False) or (len(args) > 2 and args[2]))
            if name.startswith("_fused_sgd"):
                result = None
            elif name == "nonzero":
                result = args[0].new_empty((args[0].numel(), args[0].dim()), dtype=torch.int64)
            else:
                result = func(*args, **kwargs)
            first = next((each for each in tree_iter(result) if isinstance(each, torch.Tensor)), None)
            if name == "_to_copy" and first is not None and first.is_cuda != on_gpu:
                self.copied(tensors[0], kwargs.get("non_blocking", False))
            if (on_gpu or (first is not None and first.is_cuda)) and not func.is_view and name not in FREE:
                self.launches += 1

            return result

        def check_types(self, name: str, tensors: list[Any]) -> None:
            types = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
            if len(types) > 1 or len({tensor.device for tensor in tensors if tensor.dim()}) > 1:
                raise TypeError(f"{name} reads tensors of several types or devices: {types}")

        def copied(self, source: Any, without_waiting: bool) -> None:
            """Records a copy between the processor and the GPU. Only one from pinned memory does not wait."""
            if source.is_cuda or not (without_waiting and getattr(source, "pinned", False)):
                self.wait()

        def wait(self) -> None:
            frame = sys._getframe(2)
            while frame and SOURCE not in Path(frame.f_code.co_filename).parents:
                frame = frame.f_back  # type: ignore[assignment]
            if frame is None:
                self.waits.add("outside of duvae")
                return
            path = Path(frame.f_code.co_filename)
            line = linecache.getline(str(path), frame.f_lineno).strip()
            self.waits.add(f"{path.relative_to(SOURCE)}: {line}")

    return Simulation()
