"""Batches of documents of one length, or of images: no padding inside a batch, none dropped."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from duvae.data.store import Array, Split


def tensor(split: Split, indices: Array, device: torch.device, generator: Generator | None = None) -> Tensor:
    """The examples at `indices` on a device, as the networks take them.

    Where pixels are grey, bits are drawn from them here, on the device, anew each time an example is used
    (Burda et al. 2016).

    Args:
        split: Whose examples.
        indices: Which, all of one size.
        device: Where to.
        generator: Of the bits; None: torch's global one, so that they go on where a training was stopped.
    """
    x = moved(torch.from_numpy(split.batch(indices)), device)

    return torch.bernoulli(x, generator=generator) if split.drawn else x


class Examples:
    """The examples of a split on a device, as `tensor` gives them.

    On a GPU with room for it the whole split lies there, so that of a batch only the numbers of its examples are
    copied. On a CPU a batch comes out of the file's pages.

    Args:
        split: Whose examples.
        device: Where to.
        resident: Whether the split lies there as a whole; None: where the device is a GPU and has four times as much
            memory free.
    """

    def __init__(self, split: Split, device: torch.device, resident: bool | None = None) -> None:
        self.split, self.device = split, device
        if resident is None:
            resident = device.type == "cuda" and 4 * split.values.nbytes < torch.cuda.mem_get_info(device)[0]
        self.values: Tensor | None = None
        if resident:
            self.values = torch.from_numpy(np.array(split.values)).to(device)
            self.lengths = split.lengths
            self.kind = torch.from_numpy(np.zeros(0, split.kind)).dtype

    def __call__(self, indices: Array, generator: Generator | None = None) -> Tensor:
        """The examples at `indices`, all of one size; grey pixels become bits that `generator` draws."""
        if self.values is None:
            return tensor(self.split, indices, self.device, generator)
        starts = moved(torch.from_numpy(np.asarray(self.split.starts[indices])), self.device)
        inside = torch.arange(int(self.lengths[indices[0]]), device=self.device)
        x = self.values[starts[:, None] + inside].to(self.kind).view(len(indices), *self.split.shape)

        return torch.bernoulli(x, generator=generator) if self.split.drawn else x


def moved(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; nothing waits until it is there."""
    if device.type == "cuda":
        x = x.pin_memory()  # else the copy would wait for all that the device has to do

    return x.to(device, non_blocking=True)


def batches(lengths: Array, size: int, seed: Sequence[int] | None = None) -> list[Array]:
    """Cuts documents into batches of one length.

    A lone last document joins the batch before it of the same length, since batch normalization
    has no variance over one. With a seed the documents of a length, then the batches, are shuffled:
    the order is a function of the seed alone, so that any epoch's can be had without the ones before it.

    Args:
        lengths: The length of each document, with shape (documents,).
        size: Documents a batch; one batch a length may hold one more.
        seed: What determines the order, such as (seed, epoch); None keeps the order of the documents.

    Returns:
        Indices into `lengths`, an array a batch.
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
