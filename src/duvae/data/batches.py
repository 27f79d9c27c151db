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
    x = torch.from_numpy(split.batch(indices))
    if device.type == "cuda":
        x = x.pin_memory()  # else the copy would wait for all that the device has to do
    x = x.to(device, non_blocking=True)

    return torch.bernoulli(x, generator=generator) if split.drawn else x


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
