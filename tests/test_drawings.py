"""Figures in pages: on a narrow screen, windows onto their panels stand one below the other."""

import base64
import io
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from duvae.config import Job
from duvae.report import drawings, figures
from duvae.report.results import Result

HIGH = 100_000.0
"""A value whose tick label is wide."""


@figures.styled
def two_panels(highest: float = HIGH) -> Figure:
    figure = Figure(figsize=(6, 3))
    for ax in figure.subplots(1, 2):
        ax.plot([0, 1], [0, highest])
        ax.set_title("a title", loc="left")
    figure.tight_layout()

    return figure


def sides(window: drawings.Window) -> tuple[float, float, float, float]:
    """The left, top, right and bottom of a window."""
    left, top, width, height = window

    return left, top, left + width, top + height


def test_a_window_has_the_whole_panel_with_its_labels_and_nothing_of_the_next_panel() -> None:
    figure = two_panels()
    first, second = map(sides, drawings.windows(figure, drawings.each_panel(figure)))
    assert 0 <= first[0] < first[2] < second[0] < second[2] <= 6 * 72
    for ax, window in zip(figure.axes, (first, second), strict=True):
        box = ax.get_position()
        assert window[0] < box.x0 * 432 - 25, "the tick labels are more than 25 points wide"
        assert window[1] < (1 - box.y1) * 216 - 7, "the title is 7.5 points high"
        assert window[2] >= box.x1 * 432
        assert window[3] > (1 - box.y0) * 216 + 6


def test_the_windows_do_not_depend_on_the_resolution_of_the_figure() -> None:
    figure = two_panels()
    before = drawings.windows(figure, [figure.axes])
    figure.dpi = 300
    assert drawings.windows(figure, [figure.axes]) == before
    assert figure.dpi == 300


def test_the_windows_of_an_svg_show_the_figure_that_the_page_has_once() -> None:
    html = str(drawings.inline_svg(figure := two_panels(), drawings.each_panel(figure)))
    (name,) = set(re.findall(r'<use href="#(figure-[0-9a-f]+)"/>', html))
    assert html.count("<use href=") == 2
    assert html.count(f'id="{name}"') == 1
    ids = set(re.findall(r' id="([^"]+)"', html))
    referred = {found for pair in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html) for found in pair if found}
    assert referred <= ids
    assert not [found for found in ids if re.fullmatch(r"(axes|figure|patch|text|line2d)_\d+", found)]
    assert "<metadata>" not in html


def test_a_figure_without_windows_is_the_figure_alone() -> None:
    html = str(drawings.inline_svg(two_panels()))
    assert html.startswith("<svg")
    assert "<use href=" not in html
    assert "panels" not in html


def test_the_windows_of_a_png_show_the_picture_that_the_page_has_once() -> None:
    figure = two_panels()
    png = figures.png(figure)
    html = str(drawings.inline_png(figure, png, [figure.axes[:1], figure.axes[1:]]))
    (data,) = re.findall(r'href="data:image/png;base64,([^"]+)"', html)
    assert base64.b64decode(data) == png
    assert re.findall(r'<use href="#([^"]+)"/>', html) == re.findall(r' id="([^"]+)"', html) * 2


def test_a_small_png_is_the_same_picture_in_fewer_bytes() -> None:
    figure = two_panels()
    whole, small = figures.png(figure, 110), figures.small_png(figure, 110)
    one, other = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float) for data in (whole, small))
    assert one.shape == other.shape == (330, 660, 3)
    assert abs(one - other).max() <= 16, "of 255 steps"
    assert len(small) < 0.6 * len(whole)
    assert figures.small_png(figure, 110) == small


@pytest.mark.parametrize("settings", [2, figures.INSIDE + 1, 200])
def test_the_legend_of_the_bias_has_room_whatever_the_number_of_settings(settings: int) -> None:
    exact = {"curve": [{"samples": k, "bias": 1 / k, "bias_stderr": 0.01} for k in (1, 10)]}
    metrics = {"system": "vae", "hyperparameters": {}, "exact": exact}
    jobs = [Job("synthetic", f"vae_{number}", 1, "synthetic") for number in range(settings)]
    results = [Result(job, metrics, pd.DataFrame(), None, {}) for job in jobs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.bias(results)
    (ax,) = figure.axes
    (legend,) = [*figure.legends, *([ax.get_legend()] if ax.get_legend() else [])]
    assert len(legend.get_texts()) == settings
    figure.draw_without_rendering()
    assert bool(figure.legends) == (settings > figures.INSIDE)
    if figure.legends:
        assert legend.get_window_extent().y1 <= ax.get_tightbbox().y0
        assert legend.get_window_extent().y0 >= 0


def test_two_figures_have_two_names() -> None:
    names = set()
    for highest in (1.0, 2.0):
        figure = two_panels(highest)
        names |= set(re.findall(r' id="(figure-[0-9a-f]+)"', drawings.inline_svg(figure, [figure.axes])))
    assert len(names) == 2


@pytest.mark.parametrize("legend", [True, False])
def test_the_groups_of_a_figure(legend: bool) -> None:
    figure = two_panels()
    if legend:
        figure.legend(["a line"])
    groups = drawings.each_panel(figure)
    assert len(groups) == 2 + legend
    assert sum(isinstance(group[0], Axes) for group in groups) == 2
