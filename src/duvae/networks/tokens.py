"""Softmaxes over a vocabulary, without keeping their logits."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

SAFE = 80.0
"""exp(x), and a sum of such terms, neither overflows nor vanishes in float32 while its logarithm stays within this."""


@torch.no_grad()
def log_normalizer(
    hidden: Float[Tensor, "rows hidden"], weight: Float[Tensor, "words hidden"], at_once: int
) -> Float[Tensor, "rows"]:
    r"""$\log \sum_w \exp(h \cdot W_w)$ of each row.

    Where the norms of h and W bound every logit, and with them the sum, safely, the maximum needs no
    subtracting, which saves two passes over the logits.

    Args:
        hidden: h.
        weight: W.
        at_once: Logits held at a time.
    """
    rows = max(1, at_once // len(weight))
    bound = weight.norm(dim=1).max() * hidden.norm(dim=1).max()
    result = hidden.new_empty(len(hidden))
    if bound + math.log(len(weight)) > SAFE:
        for part, out in zip(hidden.split(rows), result.split(rows), strict=True):
            out.copy_((part @ weight.T).logsumexp(-1))
        return result
    logits = hidden.new_empty(min(rows, len(hidden)), len(weight))
    for part, out in zip(hidden.split(rows), result.split(rows), strict=True):
        held = torch.mm(part, weight.T, out=logits[: len(part)])
        torch.sum(held.exp_(), -1, out=out)

    return result.log_()
