"""Integrates densities over a two-dimensional latent code z, by sums over square lattices.

The data and the measures both use this module: the likelihood under the generator of synthetic sentences and the
likelihood under a trained model are integrals of p(x, z) over z.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from duvae.errors import UserError

Array = npt.NDArray[Any]

COARSE = 4
"""Spacing of the coarse lattice, divided by the spacing of the fine lattice; `integrals` describes both lattices."""

LEAST = 8
"""Smallest number of steps of the coarse lattice from 0 to its edge."""

MARGIN = 25.0
"""Default margin in nats, by which `integrals` decides which points of a lattice it leaves out of the sum.

A point z is left out if log p(x, z) is more than this margin below the value at a given code. The margin is wide,
because the coarse lattice may miss the maximum of p(x, z)."""


class LogJoint(Protocol):
    """Computes log p(x, z) in nats for one x and many z, and keeps the z whose value is above `floor`."""

    def __call__(self, index: int, z: Tensor, floor: float, precise: bool) -> tuple[Tensor, Tensor]:
        """Computes log p(x, z).

        Args:
            index: Index of x among the examples that are integrated, from 0.
            z: Latent codes, shape (n, 2), in double precision.
            floor: Bound in nats that log p(x, z) of a kept z must exceed.
            precise: Whether the value is summed. If not, it only decides which cells matter, and single precision is
                enough.

        Returns:
            Indices of the z that are kept, and log p(x, z) of each of them, both of shape (kept z,).
        """


@dataclass(frozen=True)
class Integrals:
    r"""Results of `integrals`, for each x.

    Attributes:
        nll: $-\log \int p(x, z) \, dz$ in nats, with the spacing of the fine lattice, shape (examples,).
        twice: The same with twice that spacing, shape (examples,). If both agree, the spacing is small enough.
        border: Share of the integral in the outermost cells of the coarse lattice, and beyond, shape (examples,). If
            the share is small, the lattice is wide enough. If no point of the lattice matters, the share is 0, and the
            other two values are infinite.
    """

    nll: Array
    twice: Array
    border: Array


def integrals(
    log_joint: LogJoint,
    own: Array,
    spacing: float,
    halfwidth: float,
    margin: float = MARGIN,
    progress: Callable[[int], None] = lambda done: None,
) -> Integrals:
    r"""Computes $-\log \int p(x, z) \, dz$ for each x in nats, by quadrature.

    The integral is approximated by a sum over the points z of a square lattice, times the area of a cell. First, a
    coarse lattice shows which cells have probability mass. Then the sum is computed over the fine lattice, but only in
    these cells. A second sum takes only every second line of the fine lattice in each direction.

    Args:
        log_joint: Function that computes log p(x, z).
        own: Codes at which p(x, z) is large, for each x, shape (examples, codes, 2). Points z are left out if their
            p(x, z) is far below the largest value at these codes.
        spacing: Distance between neighbouring points of the fine lattice.
        halfwidth: Bound of the lattice, which reaches from -halfwidth to halfwidth in each dimension.
        margin: Margin in nats of points that are left out (see `MARGIN`).
        progress: Function that receives the number of finished x; the default does nothing.

    Raises:
        UserError: If the spacing leaves too few points in the lattice.
    """
    half = math.ceil(halfwidth / spacing / COARSE)
    if half < LEAST:
        raise UserError(
            f"params.yaml: spacing {spacing} of a lattice leaves too few points within halfwidth {halfwidth}; expected"
            f" at most {halfwidth / LEAST / COARSE:.3g}. Lower it, or raise halfwidth."
        )
    coarse = COARSE * torch.cartesian_prod(*2 * [torch.arange(-half, half + 1)])
    area = 2 * math.log(spacing)
    found = Integrals(*(np.empty(len(own)) for _ in range(3)))
    for n, codes in enumerate(torch.from_numpy(own)):
        floor = float(log_joint(n, codes, -math.inf, True)[1].max()) - margin
        matter, _ = log_joint(n, coarse.double() * spacing, floor, False)
        lattice = _refined(coarse[matter])
        which, density = log_joint(n, lattice.double() * spacing, floor, True)
        points = lattice[which]
        even = (points % 2 == 0).all(1)
        outer = (points.abs() > COARSE * (half - 1)).any(1)
        total = density.logsumexp(0)
        found.nll[n] = -(total + area)
        found.twice[n] = -(density[even].logsumexp(0) + area + math.log(4))
        found.border[n] = float((density[outer].logsumexp(0) - total).exp()) if len(density) else 0.0
        progress(n + 1)

    return found


def _refined(coarse: Tensor) -> Tensor:
    """Points of the fine lattice whose distance from a given point of the coarse lattice is at most one coarse cell.

    Coordinates are in units of the fine spacing, and the distance is the larger of the distances in the two directions.
    The result holds each point once.
    """
    if not len(coarse):
        return coarse
    reach = torch.arange(-COARSE, COARSE + 1)
    points = (coarse[:, None] + torch.cartesian_prod(reach, reach)).flatten(0, 1)
    # Each point becomes one number, because `unique` sorts single numbers much faster than pairs.
    side = 2 * int(points.abs().max()) + 1
    keys = (points[:, 0] * side + points[:, 1]).unique()
    second = (keys + side // 2).remainder(side) - side // 2

    return torch.stack([(keys - second) // side, second], 1)
