"""The examples in docs/examples run, and show what the documentation says."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from duvae.metrics import verdict

DOCS = Path(__file__).parents[1] / "docs"


def example(name: str) -> ModuleType:
    """Loads a file of docs/examples as a module."""
    specification = importlib.util.spec_from_file_location(name, DOCS / f"examples/{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
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


def test_code_of_the_page_names_what_exists() -> None:
    """Every name that the page imports or reads from the measures exists."""
    from duvae.metrics import functions

    text = (DOCS / "metrics-library.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", text, re.MULTILINE))
    attributes = {name for pair in names for name in pair if name} | set(re.findall(r"measures\.(\w+)", text))

    assert len(attributes) > 8
    assert all(name in functions.Measures.__annotations__ or hasattr(functions.Measures, name) for name in attributes)
