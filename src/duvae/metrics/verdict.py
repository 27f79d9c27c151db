"""Decides from a model's metrics whether its latent space has collapsed. `docs/metrics.md` explains the rule.

Two measures decide. The use of z is the mean over x of log p(x|z) − log p(x|z'), in nats. z is a sample of q(z|x), and
z' is the code of another example. It is 0 if the decoder ignores z. The mutual information (MI) of x and z is 0 if all
posteriors are equal. Neither of the two is above 0 by construction: a system that keeps its posteriors apart, such as
one with batch-normalized means, can still have a decoder that ignores z.
"""

from collections.abc import Mapping, Sequence
from typing import Any

COLLAPSED = "collapsed"
NOT_COLLAPSED = "not collapsed"
CANNOT_TELL = "cannot tell"

COLLAPSED_MI = 0.1
"""Bound of the mutual information in nats, below which z holds next to no information about x."""

UNUSED = 0.1
"""Bound of the use of z in nats, below which the decoder makes next to no use of z."""

ERRORS = 1.96
"""Number of standard errors by which the use of z must differ from `UNUSED`, for a confidence of 95 %."""


def verdict(metrics: Mapping[str, Any]) -> str:
    r"""Decides whether a model has collapsed.

    - `collapsed`: the MI is below `COLLAPSED_MI`, or the use of z is clearly below `UNUSED`.
    - `not collapsed`: the use of z is clearly above `UNUSED`, and the MI is not below its bound or is not defined.
    - `cannot tell`: the measures contradict each other, the error of the use of z is too large, or the use of z was
      not measured.

    A value is clearly on one side of a bound if it differs from the bound by more than `ERRORS` standard errors.

    Where the MI is not defined, an upper bound of the MI can take its place. The KL is such a bound, because the mean
    of KL[q(z|x) || p(z)] over x is the MI plus KL[q(z) || p(z)]. Another bound is the MPD of z (`mpd_t`), the mean of
    KL[q(z|x) || q(z|x')] over all pairs of x and x'. The MPD is a bound because the divergence is convex, and because
    $I(x, z) = E_x KL[q(z|x) \| E_{x'} q(z|x')]$.

    Args:
        metrics: Content of the model's metrics.json. `use` is missing in results of earlier versions.

    Returns:
        One of the three verdicts above.
    """
    mi = metrics["mi"]
    bounds = [mi] if mi is not None else [metrics["kl"], metrics.get("mpd_t")]
    uninformative = any(bound is not None and bound < COLLAPSED_MI for bound in bounds)
    unused, used = _sides(metrics.get("use"), metrics.get("use_stderr"))
    if uninformative and used:
        return CANNOT_TELL
    if uninformative or unused:
        return COLLAPSED

    return NOT_COLLAPSED if used else CANNOT_TELL


def _sides(use: float | None, error: float | None) -> tuple[bool, bool]:
    """Whether the use of z is clearly below its bound, and whether it is clearly above its bound."""
    if use is None:
        return False, False
    if error is None:  # a single example shows nothing
        return False, False

    return use + ERRORS * error < UNUSED, use - ERRORS * error > UNUSED


def collapsed(metrics: Mapping[str, Any]) -> bool | None:
    """Whether a model has collapsed; None where the metrics do not tell."""
    return {COLLAPSED: True, NOT_COLLAPSED: False}.get(verdict(metrics))


def over_seeds(verdicts: Sequence[bool | None]) -> str:
    """Puts the verdicts of all seeds of a setting into words. See `of_setting`.

    Args:
        verdicts: For each seed, whether the model has collapsed; None where its metrics do not tell.

    Returns:
        The verdict that all seeds share, or a text such as `1 of 3 collapsed`.
    """
    fallen = sum(each is True for each in verdicts)
    alive = sum(each is False for each in verdicts)
    if fallen == len(verdicts):
        return COLLAPSED
    if alive == len(verdicts):
        return NOT_COLLAPSED
    if not fallen and not alive:
        return CANNOT_TELL
    parts = [f"{fallen} of {len(verdicts)} {COLLAPSED}"]
    if unclear := len(verdicts) - fallen - alive:
        parts.append(f"{unclear} unclear")

    return ", ".join(parts)


def of_setting(metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Puts the verdicts of all seeds of a setting into words.

    Args:
        metrics: Content of metrics.json of each seed.

    Returns:
        The words of `over_seeds`; None where no seed has a measure that the verdict could follow from, such as an
        autoencoder whose use of z was not measured.
    """
    if all(each.get(key) is None for each in metrics for key in ("mi", "kl", "mpd_t", "use")):
        return None

    return over_seeds([collapsed(each) for each in metrics])


RULE = (
    f"Collapsed: the information in z (MI) is below {COLLAPSED_MI} nats, or the decoder ignores z, so that the use of z"
    f" is below {UNUSED} nats by more than {ERRORS} standard errors. The length of x does not count, since z"
    f" is exchanged among examples of equal length. Not collapsed: the use of z is above {UNUSED} nats by more than"
    f" {ERRORS} standard errors. If the two contradict each other, or if neither holds, the results cannot tell. Where"
    " the MI is not defined, a KL or an MPD of z below the bound counts as an MI below it, since both are at least the"
    " MI; for a flow, both are estimates. The bounds are ours."
)
"""The rule in the words of the pages."""
