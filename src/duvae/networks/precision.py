"""Keeps single precision in those parts of a model whose results half precision would spoil.

With the option `bfloat16`, PyTorch's autocast computes the encoder and the decoder in half precision. The rest of the
model computes in single precision: q(z|x), its samples, the objective, and the softmax over the vocabulary. A bfloat16
number has 8 bits. A logit of 10 then has an error of up to 0.03, and so has the log probability of a word.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def single_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Switches autocast off inside a `with` block. Where autocast is off anyway, the block costs nothing.

    Args:
        x: A tensor on the device of the computations.
    """
    kind = x.device.type

    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def single(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Converts x to single precision if it has half precision. Any other x is returned unchanged."""
    return x.float() if x.dtype.itemsize < 4 else x
