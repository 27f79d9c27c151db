"""Sizes of the blocks into which large computations are cut: for a CPU's cache, or for a GPU's memory."""

import torch
from torch import Tensor

ROWS = 4096
"""Smallest number of LSTM states, one row each, that a GPU computes at once. With fewer rows most of it is idle."""

IMAGES = 512
"""Smallest number of images that a GPU computes at once."""

MOST = 4
"""Largest block of a GPU, divided by the smallest. A GPU with enough free memory always takes the largest block.

So the size of a block, on which the last bits of a result depend, rarely depends on the free memory.
"""

SHARE = 8
"""A block on a GPU takes at most this fraction (1 / SHARE) of the free memory, unless the smallest block takes more."""

ELEMENTS = 2**29
"""Largest number of logits that a GPU computes at once in training: 2 GiB in single precision."""


def block_size(x: Tensor, on_cpu: int, smallest: int, elements: int) -> int:
    """Chooses how many rows or images are computed at once.

    Args:
        x: A tensor on the device of the computations.
        on_cpu: The number on a CPU.
        smallest: The smallest number on a GPU.
        elements: Number of float32 values that one row or image needs.

    Returns:
        On a CPU `on_cpu`. On a GPU `smallest`, doubled up to `MOST` times as large while the values fit.
    """
    if not x.is_cuda:
        return on_cpu
    size, free = smallest, free_memory(x.device)
    while size < MOST * smallest and 2 * size * elements * 4 * SHARE <= free:
        size *= 2

    return size


def logits_at_once(x: Tensor, on_cpu: int) -> int:
    """Returns how many logits are computed at once in training: `on_cpu` on a CPU, `ELEMENTS` on a GPU."""
    return ELEMENTS if x.is_cuda else on_cpu


def free_memory(device: torch.device) -> int:
    """Memory in bytes that new tensors can take on a GPU. It includes memory that PyTorch holds but does not use."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)

    return int(torch.cuda.mem_get_info(device)[0]) + held
