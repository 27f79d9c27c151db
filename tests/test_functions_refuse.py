"""Wrong functions, data and arguments give errors that say what was expected."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from duvae.metrics.functions import measure
from test_functions import X, likelihood, posterior


def nan_at_three(x: Tensor) -> Tensor:
    return torch.where(torch.arange(x.numel()).reshape(x.shape) == 3, torch.nan, x)


WRONG_ENCODERS: list[tuple[Callable[..., Any], str]] = [
    (lambda x: x, "expected a pair (means, log variances); found a tensor"),
    (lambda x: (x, x, x), "expected a pair (means, log variances); found a tuple of length 3"),
    (lambda x: (x.numpy(), x), "expected means as a tensor"),
    (lambda x: (x, x[:, :2]), "the same shape for means and log variances; found (8, 5) and (8, 2)"),
    (lambda x: (x[:, 0], x[:, 0]), "expected means of shape (batch, latent)"),
    (lambda x: (x.mean(0, keepdim=True), x.mean(0, keepdim=True)), "for a batch of 8"),
    (lambda x: (nan_at_three(x), x), "expected finite means; 1 of 40 are NaN"),
    (lambda x: (x, nan_at_three(x)), "expected finite log variances; 1 of 40 are NaN"),
    (lambda x: (x, x.long()), "expected log variances as a tensor of floating-point numbers"),
    (lambda x: (x, torch.full_like(x, -200.0)), "expected natural logarithms of variances, from -80 to 80"),
    (lambda x: (x[:, : 1 + len(x) % 2], None), "the same number of latent dimensions"),
]


@pytest.mark.parametrize(("encode", "message"), WRONG_ENCODERS)
def test_a_wrong_encoder_is_an_error(encode: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^encode: ") as caught:
        measure(encode, lambda x, z: z.sum(1), X[:11], batch=8)
    assert message in str(caught.value)


WRONG_LIKELIHOODS: list[tuple[Callable[..., Any], str]] = [
    (lambda x, z: likelihood(x, z).mean(), "expected one number per example, shape (8,); found shape ()"),
    (lambda x, z: x - z.sum(1, keepdim=True), "found shape (8, 5). Sum log p(x|z) over all axes but the first"),
    (lambda x, z: likelihood(x, z).numpy(), "found a value of type ndarray"),
    (lambda x, z: nan_at_three(likelihood(x, z)), "1 of 8 are NaN or infinite"),
    (lambda x, z: likelihood(x, z) - math.inf, "no probability becomes 0"),
    (lambda x, z: likelihood(x, z) + torch.randn(len(x)), "two calls differ"),
    (lambda x, z: likelihood(x, z) + len(x), "other examples of the batch"),
]


@pytest.mark.parametrize(("log_likelihood", "message"), WRONG_LIKELIHOODS)
def test_a_wrong_decoder_is_an_error(log_likelihood: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^log_likelihood: ") as caught:
        measure(posterior, log_likelihood, X[:11], batch=8)
    assert message in str(caught.value)


WRONG_DATA: list[tuple[Any, str]] = [
    ([], "at least one example"),
    (iter([(X[:3], X[:3])]), r"found a tuple of length 2 as a batch. If a loader"),
    ([X[:3], X[:3].float()], "one type of numbers"),
    (X[:3] * math.nan, "expected finite values; found 15 NaN"),
    (X[:3].bfloat16(), "torch.bfloat16"),
    (torch.tensor(1.0), "expected a tensor, or batches"),
]


@pytest.mark.parametrize(("data", "message"), WRONG_DATA)
def test_wrong_data_are_an_error(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^data: ") as caught:
        measure(posterior, likelihood, data)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples: expected a whole number of at least 1; found 0"),
        ({"batch": 0}, "batch: expected"),
        ({"nll_examples": 0}, "nll_examples: expected"),
        ({"groups": [1, 2]}, "groups: expected one whole number for each of the 5 examples"),
        ({"groups": np.ones(5)}, "type float64"),
    ],
)
def test_a_wrong_argument_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(posterior, likelihood, X[:5], **arguments)
