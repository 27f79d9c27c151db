"""The rules that decide about the claims of section 4.3, which are about the latent spaces of the synthetic data."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from duvae.metrics.centres import PROMINENCE, THRESHOLDS, counts
from duvae.report.cells import word_list
from duvae.report.checks import Check, Finding, lacking, together, unanimous
from duvae.report.evidence import Evidence
from duvae.report.latent_spaces import HALFWIDTH, aggregate
from duvae.report.per_example import Space
from duvae.report.results import Result

NEAR_PRIOR = 0.1
"""Bound of KL[q(z) || p(z)] in nats, below which the aggregated posterior counts as equal to the prior."""

LATTICE = np.linspace(-HALFWIDTH, HALFWIDTH, 61)
"""Coordinates of the points at which the density of a two-dimensional latent space is computed."""


def entropy(result: Result) -> float | None:
    """The entropy of the aggregated posterior q(z) in nats: MI plus the conditional entropy of z given x."""
    mi, ce = result.metrics["mi"], result.metrics["ce"]

    return None if mi is None or ce is None else float(mi) + float(ce)


def compact(evidence: Evidence) -> Finding:
    """The entropy of q(z) is below that of the prior for DU-VAE, and above it for BN-VAE."""
    prior = evidence.latent / 2 * math.log(2 * math.pi * math.e)
    names = "entropy of q(z)", "that of the prior"

    return together(
        [
            evidence.beyond("du_vae", entropy, prior, -1, names, 2),
            evidence.beyond("bn_vae", entropy, prior, 1, names, 2),
        ]
    )


def distance_from_prior(result: Result) -> float | None:
    """KL[q(z) || p(z)] in nats, which is KL - MI; None where one of the two is not defined."""
    kl, mi = result.metrics["kl"], result.metrics["mi"]

    return None if kl is None or mi is None else float(kl) - float(mi)


def matches_prior(evidence: Evidence) -> Finding:
    """The aggregated posterior of the VAE is near the prior: KL[q(z) || p(z)] is below `NEAR_PRIOR`."""
    return together([evidence.beyond("vae", distance_from_prior, NEAR_PRIOR, -1, ("KL[q(z) ‖ p(z)]", "the bound"))])


def in_the_centre(systems: Sequence[str]) -> Callable[[Evidence], Finding]:
    """A rule that the central component of the data lies in the centre of the latent space of each system.

    The centre of a component is the mean of its posterior means. The central component's must lie within the polygon
    that the other components' form, which is so if no gap between their directions, seen from it, is 180 degrees wide.
    A collapsed model decides nothing: the places of its components are noise.
    """

    def rule(evidence: Evidence) -> Finding:
        return together([_surrounded(evidence, system) for system in systems])

    return rule


def surrounded(space: Space, centre: int) -> bool:
    """Whether the central component of a space lies within the other components (see `in_the_centre`)."""
    places = {int(c): space.means[space.labels == c].mean(0) for c in np.unique(space.labels)}
    if centre not in places or len(places) < 4:
        return False
    others = np.array([place for component, place in places.items() if component != centre]) - places[centre]
    angles = np.sort(np.arctan2(others[:, 1], others[:, 0]))
    gaps = np.diff(np.append(angles, angles[0] + 2 * math.pi))

    return bool(gaps.max() < math.pi)


def _surrounded(evidence: Evidence, system: str) -> Check:
    models, spaces = evidence.models(system), _spaces(evidence, system)
    if not spaces:
        return _no_spaces(evidence, system)
    fallen = {seed for seed, model in models.items() if model.collapsed}
    outcomes = [None if seed in fallen else surrounded(space, evidence.centre) for seed, space in spaces.items()]
    between = sum(outcome is True for outcome in outcomes)
    collapsed = outcomes.count(None)
    text = f"{evidence.name(system)}: between the others in {between} of {len(outcomes) - collapsed}"
    text += f" that did not collapse, {collapsed} collapsed" if collapsed else ""

    return unanimous(outcomes, text, len(spaces), **evidence.endings(evidence.setting(system)))


def five_centres(evidence: Evidence) -> Finding:
    """The aggregated posterior of DU-VAE has as many centres as the data has components; no other system's has.

    The number of centres depends on how far a peak must stand out. So a model decides only if the number is that of the
    components at all `THRESHOLDS`, or if it is at no threshold between the least and the greatest of them.
    """
    checks = []
    for system in ("du_vae", "vae", "agg_vae", "bn_vae"):
        spaces = [space for space in _spaces(evidence, system).values() if space.variances is not None]
        if not spaces:
            checks.append(_no_spaces(evidence, system))
            continue
        found = [counts(density(space)) for space in spaces]
        components = len(np.unique(spaces[0].labels))
        outcomes = [as_many(each, components) for each in found]
        wanted = outcomes if system == "du_vae" else [None if each is None else not each for each in outcomes]
        text = f"{evidence.name(system)}: {word_list([centres_text(each) for each in found])}"
        checks.append(unanimous(wanted, text, len(found), **evidence.endings(evidence.setting(system))))

    return together(checks)


def as_many(found: Mapping[float, int], wanted: int) -> bool | None:
    """Whether a density has the wanted number of centres; None where this depends on the threshold.

    The number falls as the threshold rises. So it takes the wanted value at some threshold, perhaps between two of
    those in `found`, only if that value lies between the numbers at the least and at the greatest threshold.

    Args:
        found: The number of centres at each threshold, as `duvae.metrics.centres.counts` returns it.
        wanted: Number of centres that the density shall have.
    """
    least, greatest = min(found.values()), max(found.values())
    if least == greatest == wanted:
        return True

    return None if least <= wanted <= greatest else False


def centres_text(found: Mapping[float, int]) -> str:
    """Puts the number of centres into words, with the thresholds at which it is another.

    Args:
        found: The number of centres at each threshold, as `duvae.metrics.centres.counts` returns it.

    Returns:
        A text such as `4 centres (5 if peaks of at least 1 % of the highest are counted)`.
    """
    usual = found[PROMINENCE]
    words = "1 centre" if usual == 1 else f"{usual} centres"
    others: dict[int, list[str]] = {}
    for threshold, count in found.items():
        if count != usual:
            others.setdefault(count, []).append(f"{100 * threshold:g}")
    if not others:
        return f"{words} (for peaks from {100 * THRESHOLDS[0]:g} to {100 * THRESHOLDS[-1]:g} % of the highest)"
    texts = [
        f"{count} if {'' if float(shares[0]) < 100 * PROMINENCE else 'only '}peaks of at least {word_list(shares)} % of"
        " the highest are counted"
        for count, shares in others.items()
    ]

    return f"{words} ({'; '.join(texts)})"


def density(space: Space) -> np.ndarray:
    """Computes the density of the aggregated posterior of a space at the points of `LATTICE` in both dimensions."""
    assert space.variances is not None

    return aggregate(space.means, space.variances, LATTICE, LATTICE)


def _spaces(evidence: Evidence, system: str) -> dict[int, Space]:
    """The latent spaces of a system's setting, by seed."""
    setting = evidence.setting(system)

    return {seed: space for (key, seed), space in sorted(evidence.spaces.items()) if key == setting}


def _no_spaces(evidence: Evidence, system: str) -> Check:
    return evidence.without_results(system) or lacking("no latent space of", [evidence.name(system)])


def diverse_and_certain(evidence: Evidence) -> Finding:
    """DU-VAE has a greater MPD and a smaller CE than VAE and BN-VAE."""
    checks = []
    for other in ("vae", "bn_vae"):
        checks.append(evidence.greater("du_vae", other, lambda result: result.metrics["mpd"], "MPD", 4))
        checks.append(evidence.greater(other, "du_vae", lambda result: result.metrics["ce"], "CE", 4))

    return together(checks)
