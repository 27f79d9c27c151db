"""Compiled training: the same function as the plain form, the same bits after a resumption, and clear errors."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

import family
from duvae.networks.fast.unrolled import _log_softmax, log_softmax_columns, unrolled_lstm
from duvae.training import compilation

TESTS = Path(__file__).parent
COMPILER = os.environ.get("CXX", "g++")


def computed(kind: str, folder: Path) -> Any:
    """What a process computes that does not check the shapes of arguments; see compiling.py."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])}
    command = [sys.executable, str(TESTS / "compiling.py"), kind, str(folder / kind)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1200)
    assert result.returncode == 0, result.stderr

    return torch.load(folder / kind)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return computed("losses", tmp_path_factory.mktemp("losses"))


@pytest.mark.parametrize("name", family.NAMES)
def test_compiled_loss_and_gradient_are_those_of_the_plain_form(name: str, losses: Any) -> None:
    expected, found = losses[name]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-9)


# ---------------------------------------------------------------------------------------- the parts


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_the_unrolled_lstm_is_pytorchs(length: int, batch: int, width: int, hidden: int, seed: int) -> None:
    """Outputs and gradients, in double precision."""
    torch.manual_seed(seed)
    lstm = nn.LSTM(width, hidden).double()
    x = torch.randn(length, batch, width, dtype=torch.float64, requires_grad=True)
    start, cell = (torch.randn(1, batch, hidden, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight, recurrent, bias_in, bias_hidden = lstm.parameters()
    inputs = (weight @ x.flatten(0, 1).T + (bias_in + bias_hidden)[:, None]).unflatten(1, (length, batch))
    found = unrolled_lstm(inputs, recurrent, start[0].T, cell[0].T).permute(1, 2, 0)
    expected = lstm(x, (start, cell))[0]
    torch.testing.assert_close(found, expected)
    direction, leaves = torch.randn_like(expected), [x, start, cell, *lstm.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves, direction), torch.autograd.grad(expected, leaves, direction)
    )


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_the_softmax_of_compiled_training_is_cross_entropy(scale: float) -> None:
    """Also where the powers of a column do not fit into float32."""
    torch.manual_seed(1)
    hidden, weight = (scale * torch.randn(4, 7)).requires_grad_(), torch.randn(9, 4, requires_grad=True)
    words, direction = torch.randint(9, (7,)), torch.randn(7)
    found = log_softmax_columns(hidden, weight, words)
    expected = -cross_entropy(hidden.T @ weight.T, words, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale)
    torch.testing.assert_close(
        torch.autograd.grad(found, [hidden, weight], direction),
        torch.autograd.grad(expected, [hidden, weight], direction),
        rtol=1e-4,
        atol=1e-5 * scale,
    )
    torch.library.opcheck(_log_softmax, (hidden, weight, words), test_utils=("test_schema", "test_faketensor"))


def test_dropout_of_compiled_training_keeps_its_share(tmp_path: Path) -> None:
    first, second = computed("drops", tmp_path)
    assert set(first.tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert abs(float((first == 0).float().mean()) - 0.25) < 0.01
    assert not torch.equal(first, second)


# ------------------------------------------------------------------------------------- the training


@pytest.mark.program(COMPILER)
def test_compiled_training_computes_the_same_and_resumes_to_the_bit(tmp_path: Path) -> None:
    """Without dropout the random numbers are the same as without compilation, so that only rounding differs."""
    weights = computed("trainings", tmp_path)
    assert weights["plain"].keys() == weights["compiled"].keys()
    for name, value in weights["plain"].items():
        torch.testing.assert_close(weights["compiled"][name], value, rtol=1e-4, atol=1e-5)
    assert not family.same(weights["plain"], weights["compiled"]), "nothing was compiled"
    assert family.same(weights["resumed"], weights["whole"])
    assert not family.same(weights["whole"], weights["compiled"]), "nothing was dropped"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return computed("shapes", tmp_path_factory.mktemp("shapes"))


@pytest.mark.parametrize(
    ("compiled", "graphs"), [("parts of texts", 1), ("parts of images", 2), ("whole", compilation.MOST_SHAPES)]
)
def test_batches_of_all_shapes_have_their_loss_with_few_graphs(compiled: str, graphs: int, shapes: Any) -> None:
    """The parts that a GPU compiles need one graph each. A CPU compiles the most frequent shapes, and no others."""
    found, losses = shapes[compiled]
    assert found == graphs
    for plain, value in losses:
        assert value.keys() == plain.keys()
        for key, expected in plain.items():
            torch.testing.assert_close(value[key], expected, rtol=1e-6, atol=1e-9)


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    code = "from duvae.training import compilation; compilation.check()"
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    message = result.stderr.strip().splitlines()[-1]
    assert "PyTorch's compiler does not work here" in message
    assert "no-such-compiler" in message
    assert message.endswith("Install g++ and Python's header files, or set compiled to false.")
