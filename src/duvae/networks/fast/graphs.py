"""CUDA graphs: a GPU repeats a recorded sequence of kernels, which costs the CPU one launch instead of thousands."""

from collections.abc import Callable

import torch

Step = Callable[[], None]


def replayed(step: Step, reset: Step, device: torch.device) -> Step:
    """Returns a function that does what `step` does. On a GPU it replays a CUDA graph of `step`.

    A graph repeats the same kernels on the same memory. So `step` must read and write only tensors that exist before
    and after it, and must not depend on values that the CPU would have to read.

    Args:
        step: The function to repeat. It has no arguments; its inputs and results are tensors that the caller has.
        reset: A function that undoes all changes by `step`. Before the recording, `step` runs once, since libraries
            such as cuDNN choose their kernels in the first run.
        device: The device of the tensors of `step`.

    Returns:
        The function to call instead of `step`.
    """
    if device.type != "cuda" or not torch.cuda.is_available():  # tests simulate a GPU where there is none
        return step
    with torch.cuda.device(device):  # a graph is recorded on the current device
        here, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            step()
        here.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    reset()

    return graph.replay
