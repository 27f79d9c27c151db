"""A CUDA graph of one row of pixels computes all rows.

A graph repeats recorded kernels on the memory of the recording. `Recording` does the same with operations on the CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from duvae.networks.fast import graphs, sampling
from test_pixelcnn import codes, decoder


def storages(values: Any) -> set[int]:
    return {each.untyped_storage().data_ptr() for each in tree_leaves(values) if isinstance(each, Tensor)}


class Recording(TorchDispatchMode):
    """Records operations; `replay` repeats them on the same tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        self.calls.append((function, arguments, options or {}, result))

        return result

    def replay(self) -> None:
        for function, arguments, options, result in self.calls:
            again = function(*arguments, **options)
            if not storages(result) & storages((arguments, options)):  # neither a view, nor written in place
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor):
                        old.copy_(new)


def made_up_cuda(recordings: list[Recording]) -> SimpleNamespace:
    """The part of `torch.cuda` that `replayed` uses, on the CPU."""

    @contextmanager
    def graph(recording: Recording) -> Iterator[None]:
        with recording:
            yield

    @contextmanager
    def stream(_: object) -> Iterator[None]:
        yield

    def create() -> Recording:
        recordings.append(Recording())
        return recordings[-1]

    def new_stream(*_: object) -> SimpleNamespace:
        return SimpleNamespace(wait_stream=lambda other: None)

    return SimpleNamespace(
        is_available=lambda: True,
        current_stream=new_stream,
        Stream=new_stream,
        device=stream,
        stream=stream,
        CUDAGraph=create,
        graph=graph,
    )


@pytest.mark.parametrize("likely", [False, True])
@pytest.mark.parametrize("kernels", [(3,), (7, 5, 5, 3, 3, 1)])
def test_the_graph_of_a_row_computes_all_rows(
    kernels: tuple[int, ...], likely: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, z = decoder(6, kernels).eval(), codes(9)
    network, maps, uniforms = made.folded(), made.z_maps(z), None if likely else torch.rand(9, 6, 6)
    expected = sampling.sample(network, maps, uniforms)
    recordings: list[Recording] = []
    monkeypatch.setattr(graphs, "torch", SimpleNamespace(cuda=made_up_cuda(recordings)))
    monkeypatch.setattr(
        sampling, "replayed", lambda step, reset, device: graphs.replayed(step, reset, torch.device("cuda"))
    )
    rows: list[int] = []
    compute = sampling.OneRow.__call__
    monkeypatch.setattr(sampling.OneRow, "__call__", lambda row: (rows.append(1), compute(row))[1])
    x, logits = sampling.sample(network, maps, uniforms)

    assert len(recordings) == 1
    assert len(rows) == 2  # once before the recording, and once for it: the graph has computed the six rows
    assert torch.equal(x, expected[0])
    torch.testing.assert_close(logits, expected[1], atol=1e-6, rtol=0)
    assert 0 < x.mean() < 1


def test_without_a_gpu_nothing_is_recorded() -> None:
    def step() -> None: ...

    assert graphs.replayed(step, step, torch.device("cpu")) is step
