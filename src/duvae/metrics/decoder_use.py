"""Measures how much the decoder uses z: how far log p(x|z) falls if another example's z takes the place of z."""

from collections.abc import Callable

import numpy as np
import torch

from duvae.data.batches import Examples, batches, to_device
from duvae.data.splits import Array, Split
from duvae.metrics.encoding import BATCH, Encoded, evaluating
from duvae.metrics.statistics import standard_error
from duvae.vae import VAE

PERMUTATIONS = 5
"""Number of other examples whose z takes the place of an example's own z."""


def partners(lengths: Array, count: int, seed: int) -> Array:
    """Draws permutations of examples. Each permutation gives every example another example of the same length.

    A permutation is one random cycle through all examples of a length. So no example is its own partner, and each other
    example of the length is an equally likely partner.

    Args:
        lengths: Length of each example, shape (examples,).
        count: Number of permutations, which is the number of partners of each example.
        seed: Seed of the permutations.

    Returns:
        Index of each example's partner, shape (count, examples); -1 for an example whose length no other example has.
    """
    random = np.random.default_rng(seed)
    found = np.full((count, len(lengths)), -1)
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        if len(members) > 1:
            for permutation in found:
                cycle = random.permutation(members)
                permutation[cycle] = np.roll(cycle, -1)

    return found


def decoder_use(
    model: VAE,
    split: Split,
    encoded: Encoded,
    device: torch.device,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Array:
    r"""Computes the decoder's use of z for each example, $\log p(x|z) - \frac1R \sum_r \log p(x|z_{\pi_r(x)})$.

    z is the example's own sample of q(z|x), or its point if the posterior has no density. $z_{\pi_r(x)}$ is the sample
    of the partner in permutation r. The R permutations are those of `partners`, with R = `PERMUTATIONS`.

    Args:
        model: Trained model to measure; it is not changed.
        split: Documents, or images of bits.
        encoded: Result of `encode` for this model and split. Its z and its reconstruction are not computed again.
        device: Device to compute on.
        seed: Seed of the permutations.
        progress: Function that receives the number of finished examples; the default does nothing.

    Returns:
        Use of z in nats, in the order of the split, shape (examples,), double precision; NaN for an example whose
        length no other example has.
    """
    others, z = partners(split.lengths, PERMUTATIONS, seed), torch.from_numpy(encoded.z)
    examples, done = Examples(split, device), 0
    use = np.full(len(split), np.nan)
    with evaluating(model):
        for indices in batches(split.lengths, BATCH):
            places = others[:, indices]
            if (places >= 0).all():  # all examples of a batch have the same length
                exchanged = to_device(z[torch.from_numpy(places)], device)
                log_prob = model.decoder.log_prob_samples(examples(indices), exchanged).double().mean(0)
                use[indices] = -encoded.reconstruction[indices].astype(np.float64) - log_prob.cpu().numpy()
            done += len(indices)
            progress(done)

    return use


def use_measures(use: Array) -> dict[str, float | None]:
    """Computes the mean use of z over the examples that have a partner, and its standard error.

    Args:
        use: Result of `decoder_use`, shape (examples,).

    Returns:
        Values of `use` and `use_stderr` in nats. Both are None if no example has a partner.
    """
    known = use[~np.isnan(use)]

    return {
        "use": float(known.mean()) if len(known) else None,
        "use_stderr": standard_error(known) if len(known) else None,
    }
