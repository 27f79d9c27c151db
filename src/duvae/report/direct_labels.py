"""Writes the names of lines at their right ends, where a legend with many entries would be hard to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes

SIZE = 6.0
"""Size of the labels in points."""

LINE = 1.12
"""Height of a label as a multiple of its size."""

CHARACTER = 0.62
"""Width of a character as a multiple of the size of the labels. It is rather too large than too small."""

LEADER = 0.13
"""Length in inches of the thin line that leads from the end of a line to its label."""


@dataclass(frozen=True)
class End:
    """The right end of a line.

    Attributes:
        name: Text of the label: the name of the line.
        at: The x coordinate of the end, in units of the data.
        value: The y coordinate of the end, in units of the data.
        colour: The colour of the line.
    """

    name: str
    at: float
    value: float
    colour: str


def width(names: Sequence[str]) -> float:
    """The width in inches that labels need to the right of a panel, with their leaders."""
    return LEADER + 0.04 + CHARACTER * SIZE * max(map(len, names), default=0) / 72


def height(count: int) -> float:
    """The least height in inches of a panel beside which so many labels fit."""
    return LINE * SIZE * count / 72


def apart(wanted: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """Moves places on a line apart, as little as that needs.

    The sum of the squared distances from the wanted places is the least for which neighbours have the distance `gap`
    and all places lie between `low` and `high`. Without the bounds this is an isotonic regression of the places minus
    multiples of the gap; the bounds only clip it.

    Args:
        wanted: The wanted places of the labels, ascending, as shares of the panel's height.
        gap: The least distance of neighbours, in the same unit.
        low: The smallest allowed place, in the unit of `wanted`.
        high: The largest allowed place. If the places do not fit, they are centred between `low` and `high`.
    """
    blocks: list[list[float]] = []
    for number, place in enumerate(wanted):
        blocks.append([place - number * gap])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    room = high - low - (len(wanted) - 1) * gap
    least, most = (low, low + room) if room >= 0 else (low + room / 2, low + room / 2)
    first = [min(most, max(least, fmean(block))) for block in blocks for _ in block]

    return [place + number * gap for number, place in enumerate(first)]


def write(ax: Axes, ends: Sequence[End]) -> None:
    """Writes labels to the right of a panel, whose limits and place in the figure are final.

    Args:
        ax: Axes of the panel that has the lines.
        ends: The ends of the lines. Each label stands as near to its end as the others let it.
    """
    box = ax.get_position()
    figure = ax.get_figure(root=True)
    assert figure is not None
    wide, high = figure.get_size_inches()
    size = high * box.height
    leader = LEADER / (wide * box.width)
    order = sorted(ends, key=lambda end: end.value)
    to_axes = ax.transData + ax.transAxes.inverted()
    starts = [to_axes.transform((end.at, end.value)) for end in order]
    wanted = [min(1.0, max(0.0, float(start[1]))) for start in starts]
    places = apart(wanted, height(1) / size)
    for end, start, height_of_end, place in zip(order, starts, wanted, places, strict=True):
        ax.plot(
            [float(start[0]), 1.0, 1 + 0.8 * leader],
            [height_of_end, height_of_end, place],
            color=end.colour,
            alpha=0.5,
            linewidth=0.4,
            transform=ax.transAxes,
            clip_on=False,
            scalex=False,
            scaley=False,
        )
        ax.text(
            1 + leader, place, end.name, color=end.colour, fontsize=SIZE, va="center", ha="left", transform=ax.transAxes
        )
