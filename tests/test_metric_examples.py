"""The examples in docs/examples run, and show what the documentation says."""

import importlib.util
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from duvae.metrics import verdict
from duvae.metrics.statistics import standard_error
from duvae.regularizers import ALPHA

DOCS = Path(__file__).parents[1] / "docs"


def example(name: str) -> ModuleType:
    """Loads a file of docs/examples as a module."""
    specification = importlib.util.spec_from_file_location(name, DOCS / f"examples/{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(specification)  # pythae looks for it when it saves
    specification.loader.exec_module(module)

    return module


def test_the_plain_vae_collapses_and_the_regularized_one_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    plain, regularized = example("plain_vae").main().values()
    printed = capsys.readouterr().out

    assert plain.verdict == verdict.COLLAPSED
    assert regularized.verdict == verdict.NOT_COLLAPSED
    assert f"{plain.nll:.2f}" in printed
    assert re.search(r"^verdict +collapsed +not collapsed$", printed, re.MULTILINE)


def test_the_exact_nll_of_the_example_is_a_distribution() -> None:
    """The probabilities of all rows of 6 bits add up to 1, and the NLL of no model is clearly below the exact one."""
    module = example("plain_vae")
    module.BITS = 6
    rows = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)

    assert float((-module.exact_nll(rows)).exp().sum()) == pytest.approx(1, abs=1e-5)


def test_the_regularizers_work_in_the_vae_of_a_library(capsys: pytest.CaptureFixture[str]) -> None:
    """The trainer of pythae keeps the scales, and the page's sentence about the two models holds."""
    module = example("pythae_vae")
    models, train = [], module.train
    module.train = lambda *arguments, **options: models.append(train(*arguments, **options)) or models[-1]
    plain, regularized = module.main().values()
    printed = capsys.readouterr().out

    encoder = models[1].encoder.eval().requires_grad_(False)
    _, test = module.pictures()
    assert float(encoder.normalize.scale.square().mean()) == pytest.approx(0.7**2, rel=1e-5)
    assert float(encoder.normalize.scale.std()) > 0.001  # the scales were trained
    assert float(encoder(test).log_covariance.exp().min()) > ALPHA
    assert plain.verdict == regularized.verdict == verdict.NOT_COLLAPSED
    assert regularized.use - plain.use > 2 * math.hypot(regularized.use_stderr, plain.use_stderr)
    difference = regularized.nll_by_example - plain.nll_by_example
    assert float(difference.mean()) < -2 * standard_error(difference)
    assert f"{regularized.nll:.2f}" in printed


def test_code_of_the_page_names_what_exists() -> None:
    """Every name that the page imports or reads from the measures exists."""
    from duvae.metrics import functions

    text = (DOCS / "metrics-library.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", text, re.MULTILINE))
    attributes = {name for pair in names for name in pair if name} | set(re.findall(r"measures\.(\w+)", text))

    assert len(attributes) > 8
    assert all(name in functions.Measures.__annotations__ or hasattr(functions.Measures, name) for name in attributes)
