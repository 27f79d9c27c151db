"""Figures for papers have the widths of journals, readable type, and one colour per system."""

import re
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

import made_up
from duvae.commands import figures as command
from duvae.config import Params
from duvae.registry import RECORDS
from duvae.report import names

LEAST = 6.0
"""Least size of type in points."""


@pytest.fixture(scope="module")
def params() -> Params:
    return made_up.params(datasets=["synthetic"], settings=["ae", "vae", "agg_vae", "bn_vae", "du_vae"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    return made_up.project(tmp_path_factory.mktemp("figures"), params)


@pytest.fixture(scope="module")
def drawn(params: Params, root: Path) -> dict[tuple[str, int], Figure]:
    return {
        (name, millimetres): draw(width)
        for name, draw in command.drawings(params, root)
        for millimetres, width in command.WIDTHS.items()
    }


def test_each_figure_of_the_results_is_drawn(drawn: dict[tuple[str, int], Figure]) -> None:
    assert {name for name, _ in drawn} == {
        "figure1",
        *(f"synthetic-{name}" for name in ("curves", "probes", "collapse", "bias")),
    }


def test_type_has_at_least_six_points(drawn: dict[tuple[str, int], Figure]) -> None:
    for key, figure in drawn.items():
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert texts, key
        assert min(text.get_fontsize() for text in texts) >= LEAST, key
        assert not any("^" in text.get_text() for text in texts), f"{key}: exponents have smaller type"


def test_names_of_systems_have_the_colours_of_the_registry(drawn: dict[tuple[str, int], Figure]) -> None:
    colours = {names.label(system): record.colour for system, record in RECORDS.items()}
    for millimetres in command.WIDTHS:
        (ax,) = drawn["synthetic-probes", millimetres].axes
        shown = {text.get_text(): to_hex(text.get_color()) for text in ax.texts}
        assert {name: shown[name] for name in ("AE", "VAE", "Agg-VAE", "BN-VAE", "DU-VAE")} == {
            name: colours[name] for name in ("AE", "VAE", "Agg-VAE", "BN-VAE", "DU-VAE")
        }


def test_the_files_have_their_widths(
    params: Params, root: Path, monkeypatch: pytest.MonkeyPatch, drawn: dict[tuple[str, int], Figure]
) -> None:
    """One point is 1/72 inch."""
    chosen = {key: figure for key, figure in drawn.items() if key[0] == "synthetic-bias"}
    widths = {inches: millimetres for millimetres, inches in command.WIDTHS.items()}
    monkeypatch.setattr(
        command, "drawings", lambda *_: [("synthetic-bias", lambda width: chosen["synthetic-bias", widths[width]])]
    )
    command.run(params, root)
    for millimetres in command.WIDTHS:
        points = millimetres / 25.4 * 72
        stem = root / command.FOLDER / f"synthetic-bias-{millimetres}"
        page = re.search(rb"/MediaBox \[ *0 0 ([0-9.]+) ", stem.with_suffix(".pdf").read_bytes())
        assert page is not None
        assert float(page[1]) == pytest.approx(points, abs=0.1)
        sheet = re.search(r'<svg [^>]*width="([0-9.]+)pt"', stem.with_suffix(".svg").read_text(encoding="utf-8"))
        assert sheet is not None
        assert float(sheet[1]) == pytest.approx(points, abs=0.1)
