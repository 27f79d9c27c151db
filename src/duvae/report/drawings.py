"""Puts figures into a page so that they are legible on a narrow screen, where their panels stand one below the other.

The page has each figure once. On a narrow screen, the figure itself has no size, and windows onto its panels are shown:
elements `<svg>` whose `viewBox` is the place of a panel, and which show the figure again by `<use>`.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from duvae.report import figures
from duvae.report.results import Result

MAX_SVG_POINTS = 60_000
"""Largest number of points of training curves that the page shows as SVG. For more points, a PNG is smaller."""

POINTS = 72.0
"""Units of an SVG file of matplotlib per inch, which are the pixels in which matplotlib lays it out."""

ENLARGED = 1.7
"""Size of a window on a narrow screen, relative to its size in print; a window is never wider than the screen."""

MARGIN = 3.0
"""Points around the panels of a window."""

OWN_ID = re.compile(r' id="[A-Za-z0-9_.]+_[0-9]+"')
"""An id that matplotlib gives to a part of each figure. No other part refers to it."""

METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)

Window = tuple[float, float, float, float]
"""Left, top, width and height of a window, in points from the upper left corner of the figure."""


def windows(figure: Figure, groups: Iterable[Sequence[Artist]]) -> list[Window]:
    """Computes the places of groups of panels, with their titles, labels and ticks.

    Args:
        figure: The figure in its final layout, whose size is in inches. It may have any resolution.
        groups: The panels (or legends) of each window.
    """
    width, height = (side * POINTS for side in figure.get_size_inches())
    dpi, found = figure.dpi, []
    with mpl.rc_context(figures.STYLE):  # the style and the resolution decide which ticks the file has
        figure.dpi = POINTS
        figure.draw_without_rendering()
        for group in groups:
            box = Bbox.union([box for artist in group if (box := artist.get_tightbbox()) is not None])
            left, right = max(float(box.x0) - MARGIN, 0), min(float(box.x1) + MARGIN, width)
            top, bottom = max(height - float(box.y1) - MARGIN, 0), min(height - float(box.y0) + MARGIN, height)
            found.append((round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)))
        figure.dpi = dpi

    return found


def each_panel(figure: Figure) -> list[list[Artist]]:
    """One group for each legend and each panel of a figure."""
    return [[artist] for artist in (*figure.legends, *figure.axes)]


def inline_svg(figure: Figure, groups: Iterable[Sequence[Artist]] = ()) -> Markup:
    """A figure as SVG inside a page.

    Args:
        figure: The figure in its final layout, whose size is in inches.
        groups: The panels of each window that is shown on a narrow screen; empty: the figure is scrolled there.
    """
    text = re.sub(r"\n\s+", "\n", METADATA.sub("", OWN_ID.sub("", figures.svg(figure))))
    if not (shown := windows(figure, groups)):
        return Markup(text)  # noqa: S704 (figures.svg escapes its text)
    name = f"figure-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    text = text.replace("<svg", '<svg class="whole"', 1).replace("<g>", f'<g id="{name}">', 1)

    return Markup(text) + _narrow(name, shown)  # noqa: S704


def inline_png(figure: Figure, png: bytes, groups: Iterable[Sequence[Artist]]) -> Markup:
    """A figure as PNG inside a page.

    Args:
        figure: The figure in its final layout, whose size is in inches.
        png: The figure as PNG.
        groups: The panels of each window that is shown on a narrow screen.
    """
    name = f"figure-{hashlib.sha256(png).hexdigest()[:8]}"
    width, height = (side * POINTS for side in figure.get_size_inches())
    whole = Markup(
        '<svg class="whole" viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg">'
        '<image id="{name}" width="{width:g}" height="{height:g}" href="data:image/png;base64,{data}"/></svg>'
    ).format(width=width, height=height, name=name, data=base64.b64encode(png).decode())

    return whole + _narrow(name, windows(figure, groups))


def curves(results: Sequence[Result], warmup: int) -> Markup:
    """The training curves as SVG, or as PNG if they have more than `MAX_SVG_POINTS` points.

    Args:
        results: Results of all models of one data set.
        warmup: Number of epochs over which the KL weight rises; the figure shades these epochs.
    """
    figure = figures.curves(results, warmup)
    if sum(len(result.history) for result in results) * len(figures.CURVES) > MAX_SVG_POINTS:
        return inline_png(figure, figures.small_png(figure), each_panel(figure))

    return inline_svg(figure, each_panel(figure))


def _narrow(name: str, shown: Sequence[Window]) -> Markup:
    """The windows onto the element with the id `name`. CSS shows them on narrow screens only."""
    parts = [
        Markup('<svg viewBox="{}" style="width: {:.0f}pt"><use href="#{}"/></svg>').format(
            " ".join(f"{side:g}" for side in window), window[2] * ENLARGED, name
        )
        for window in shown
    ]

    return Markup('<div class="panels">{}</div>').format(Markup().join(parts))
