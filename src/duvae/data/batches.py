"""Cuts a split (such as the training set) into batches of images, or of documents that have the same length.

No batch is padded, and no example is dropped.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from duvae.data.splits import Array, Split


def tensor(split: Split, indices: Array, device: torch.device, generator: Generator | None = None) -> Tensor:
    """Copies the examples at `indices` to a device, in the form that the networks read.

    Each grey pixel becomes a random bit; the value of the pixel is the probability that the bit is 1. New bits are
    drawn each time an example is used (Burda et al. 2016).

    Args:
        split: Split that holds the examples.
        indices: Indices of the examples in the split, shape (batch,). All these examples must have the same length.
        device: Device of the result.
        generator: Random generator of the bits. None: PyTorch's global generator, whose state a resumed training
            restores.

    Returns:
        Word ids of shape (batch, length), or bits of shape (batch, 1, height, width).
    """
    x = to_device(torch.from_numpy(split.batch(indices)), device)

    return torch.bernoulli(x, generator=generator) if split.is_grey else x


class Examples:
    """Gives batches of a split on a device, with the same values as the function `tensor`.

    A GPU with enough memory holds the whole split, so that only the indices of a batch are copied to the GPU. Otherwise
    each batch is read from the memory-mapped file of the prepared data set.

    Args:
        split: The split.
        device: Device of the batches.
        resident: Whether the device holds the whole split. None: True for a GPU whose free memory exceeds four times
            the size of the split, otherwise False.
    """

    def __init__(self, split: Split, device: torch.device, resident: bool | None = None) -> None:
        self.split, self.device = split, device
        if resident is None:
            resident = device.type == "cuda" and 4 * split.values.nbytes < torch.cuda.mem_get_info(device)[0]
        self.values: Tensor | None = None
        if resident:
            self.values = torch.from_numpy(np.array(split.values)).to(device)
            self.lengths = split.lengths
            self.dtype = torch.from_numpy(np.zeros(0, split.dtype)).dtype

    def __call__(self, indices: Array, generator: Generator | None = None) -> Tensor:
        """The examples at `indices`, all of which must have the same length.

        The argument `generator` is the random generator of the bits; None: PyTorch's global generator. Grey pixels
        become bits as in the function `tensor`.
        """
        if self.values is None:
            return tensor(self.split, indices, self.device, generator)
        starts = to_device(torch.from_numpy(np.asarray(self.split.starts[indices])), self.device)
        inside = torch.arange(int(self.lengths[indices[0]]), device=self.device)
        x = self.values[starts[:, None] + inside].to(self.dtype).view(len(indices), *self.split.shape)

        return torch.bernoulli(x, generator=generator) if self.split.is_grey else x


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor to a device. For a GPU, the function returns before the copy is complete."""
    if device.type == "cuda":
        x = x.pin_memory()  # a copy from unpinned memory would wait for all work queued on the device

    return x.to(device, non_blocking=True)


def batches(lengths: Array, size: int, seed: Sequence[int] | None = None) -> list[Array]:
    """Cuts documents into batches so that all documents of a batch have the same length.

    Images are cut in the same way; all images have the same length. If the last batch of a length would have a single
    document, this document joins the batch before it, because batch normalization has no variance over one example.

    The order of the batches depends only on the seed. A resumed training can therefore compute the order of any epoch.

    Args:
        lengths: Length of each document, shape (documents,).
        size: Largest number of documents in a batch; one batch of each length may hold one more document.
        seed: Seed that shuffles the documents of each length and then the batches, such as (seed, epoch). None: batches
            of ascending length, in the order of the documents.

    Returns:
        Indices of the documents of each batch, one array of shape (batch,) per batch.
    """
    generator = None if seed is None else np.random.default_rng(list(seed))
    cut: list[Array] = []
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        if generator is not None:
            members = generator.permutation(members)
        ends = list(range(size, len(members), size))
        if ends and len(members) - ends[-1] == 1:
            ends.pop()
        cut += np.split(members, ends)
    if generator is not None:
        cut = [cut[i] for i in generator.permutation(len(cut))]

    return cut
